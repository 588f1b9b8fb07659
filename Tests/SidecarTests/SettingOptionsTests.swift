// The options that come from the table of settings: which command takes which, how they are written, what help says.

import ArgumentParser
import Settings
import Testing

@testable import Sidecar

@Suite("Options from the table") struct SettingOptionsTests {
    private static let nobody = Environment([:])

    private func run(_ arguments: String...) throws -> RunCommand {
        try #require(try SidecarCommand.parseAsRoot(["run"] + arguments) as? RunCommand)
    }

    @Test("A value follows its option after a blank or a '='; what is behind `--` is the command's")
    func forms() throws {
        let command = try run(
            "--lease=a", "--ready-file", "/x", "--allow-session-pooler", "--", "--lease", "b", "--help")
        let given = command.options.reader(Self.nobody)
        #expect(try given.value(\.lease) == "a")
        #expect(try given.value(\.readyFile) == "/x")
        #expect(try given.value(\.allowSessionPooler))
        #expect(command.command == ["--lease", "b", "--help"])
    }

    @Test("Nothing given leaves the variable, and then the default") func nothing() throws {
        let options = try run("--", "true").options
        #expect(try options.reader(Self.nobody).value(\.lease) == "airflow-scheduler")
        #expect(try !options.reader(Self.nobody).value(\.allowSessionPooler))
        #expect(try options.reader(Environment(["SIDECAR_LEASE": "beat"])).value(\.lease) == "beat")
        #expect(try options.reader(Environment(["SIDECAR_ALLOW_SESSION_POOLER": "on"])).value(\.allowSessionPooler))
    }

    @Test("An option goes before its variable") func precedence() throws {
        let given = try run("--lease", "a", "--allow-session-pooler", "--", "true").options.reader(
            Environment(["SIDECAR_LEASE": "b", "SIDECAR_ALLOW_SESSION_POOLER": "no"]))
        #expect(try given.value(\.lease) == "a")
        #expect(try given.value(\.allowSessionPooler))
    }

    @Test(
        "Wrong usage is refused by the parser",
        arguments: [
            ["run", "--ttll", "1s", "--", "true"], ["run", "--ttl"], ["run", "--once=yes", "--", "true"],
            ["check", "--grace", "1s"], ["lease", "--ttl", "1s"], ["migrate", "--lease", "a"],
            ["probe", "live", "--lease", "a"], ["run", "true"],
        ])
    func usage(arguments: [String]) {
        #expect {
            _ = try SidecarCommand.parseAsRoot(arguments)
        } throws: { error in SidecarCommand.exitCode(for: error).rawValue == 64 }
    }

    @Test("A word that is no command is told, with the one that was meant, and without a secret")
    func unknownCommands() {
        #expect(Program.unknownCommand("runn") == "there is no command 'runn': did you mean `sidecar run`?")
        #expect(Program.unknownCommand("leese") == "there is no command 'leese': did you mean `sidecar lease`?")
        #expect(Program.unknownCommand("start") == "there is no command 'start': see `sidecar --help`")
        #expect(Program.unknownCommand("postgresql://u:secret@h/d") == "there is no command: see `sidecar --help`")
        #expect(Program.unknownCommand("run") == nil && Program.unknownCommand("help") == nil)
    }

    @Test("Each command takes exactly the options that the table names for it")
    func commands() {
        let help: [(SettingUser, String)] = [
            (.run, RunCommand.helpMessage()), (.check, CheckCommand.helpMessage()),
            (.lease, LeaseShowCommand.helpMessage()), (.lease, LeaseHistoryCommand.helpMessage()),
            (.migrate, MigrateCommand.helpMessage()), (.probe, ProbeCommand.helpMessage()),
        ]
        let own: Set = ["--output", "--limit", "--since", "--print", "--version", "--help"]
        for (user, text) in help {
            let shown = text.matches(of: /(?m)^ +(?:-\w, )?(--[a-z-]+)/).map { String($0.output.1) }
            let rows = SettingsTable.rows.filter { $0.users.contains(user) }
            #expect(Set(shown).subtracting(own) == Set(rows.map(\.option)), "\(user)")
        }
    }

    @Test("Help groups the options, each with its variable and its default") func help() throws {
        let text = RunCommand.helpMessage(columns: 10_000)
        var rest = text[...]
        for group in SettingGroup.allCases {
            let title = try #require(rest.range(of: "\n\(group.rawValue.uppercased()):\n"), "\(group) in its place")
            rest = rest[title.upperBound...]
            for row in SettingsTable.rows where row.group == group {
                let line = try #require(
                    rest.split(separator: "\n").first { $0.contains(row.helpText) }, "\(row.option) in its group")
                #expect(line.contains(row.variable))
                let place = row.placeholder.map { " <\($0)>" } ?? ""
                #expect(rest.contains("  \(row.option)\(place)"))
            }
        }
        #expect(text.contains("(SIDECAR_TTL; default 10s)."))
        #expect(text.contains("(SIDECAR_ONCE)."))
    }
}
