// `sidecar lease`: who leads, since when, how much of the TTL is left, which session holds the lock, who stands by.
// `sidecar lease history`: the last leaderships. Both read the database. No sidecar needs to run.

import ArgumentParser
import Clock
import Glibc
import Metastore
import Settings
import Text

enum LeaseFormat: String, CaseIterable, ExpressibleByArgument {
    case table
    case wide
    case json
}

struct LeaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lease", abstract: "Show who leads and who stands by.",
        discussion: """
            sidecar lease [--lease NAME] [-o table|wide|json] [--database-url URL]
            sidecar lease history [--limit N] [--since 24h] and the same options

            Exit codes, by the last word of the leader, which may be one TTL old:
             0  there is a leader, and its command runs
             1  nobody leads
             2  there is a leader, and its command does not run
             3  there is no such lease
            69  the database does not answer
            """,
        subcommands: [LeaseShowCommand.self, LeaseHistoryCommand.self], defaultSubcommand: LeaseShowCommand.self)
}

struct LeaseOptions: ParsableArguments {
    @OptionGroup var settings: SettingOptions<ForLease>
    @Option(name: .shortAndLong, help: "table, wide or json.")
    var output: LeaseFormat = .table

    /// A session on a database that has the schema, and the lease's name.
    func open() throws -> (tool: ToolSession, lease: String) {
        let given = settings.reader()
        let name = try given.value(\.lease)
        let tool = try ToolSession.open(
            try given.database(), purpose: .look, allowPooler: try given.value(\.allowSessionPooler))
        guard tool.facts.schemaVersion > 0 else {
            throw Failure.configuration(
                "database \"\(tool.facts.database)\" has no schema \"sidecar\" yet: start `sidecar run`, or create it with `sidecar migrate`"
            )
        }
        return (tool, name)
    }
}

struct LeaseShowCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show one lease (the default).",
        discussion:
            "Exit code 0: the command runs. 1: nobody leads. 2: led, but the command does not run. 3: no such lease.")

    @OptionGroup var options: LeaseOptions

    func execute() throws -> Int32 {
        let (tool, lease) = try options.open()
        guard let record = try tool.ask(ShowLease(lease: lease)) else { return try tool.complainOfUnknown(lease) }
        let view = LeaseView(record: record, members: try tool.ask(ListMembers(lease: lease)))
        Console.out(options.output == .json ? view.json : view.table(wide: options.output == .wide))
        return view.exitCode
    }
}

extension ToolSession {
    fileprivate func complainOfUnknown(_ lease: String) throws -> Int32 {
        let all = try ask(ListLeases())
        let names = all.prefix(20) + (all.count > 20 ? ["and \(all.count - 20) more"] : [])
        let known =
            names.isEmpty
            ? "there is no lease yet: start `sidecar run`" : "known leases: \(names.joined(separator: ", "))"
        Console.complain("no lease '\(lease)' in database \"\(facts.database)\" (\(known))")
        return LeaseExit.noSuchLease
    }
}

struct LeaseHistoryCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "Show the last leaderships, newest first.",
        discussion: """
            STARTED is the claim. ENDED is the end of the command's last process, or the last renewal of a leader that
            crashed. GAP is the time without a leader before. -o wide also shows who led before, instance and version.
            """)

    @OptionGroup var options: LeaseOptions
    @Option(help: "How many leaderships to show, 1 to 1000.")
    var limit = 20
    @Option(help: "Only leaderships that lasted until so long ago, for example 24h.")
    var since: String?

    func execute() throws -> Int32 {
        guard (1...1000).contains(limit) else { throw Failure.usage("--limit must be a number from 1 to 1000") }
        let since = try since.map { text in
            guard let since = Durations.parse(text) else {
                throw Failure.usage(
                    "--since must be a duration with a unit, for example 90m or 24h: '\(oneLine(text))'")
            }
            return since
        }
        let (tool, lease) = try options.open()
        let entries = try tool.ask(ListHistory(lease: lease, limit: limit, since: since))
        if entries.isEmpty, try tool.ask(ShowLease(lease: lease)) == nil { return try tool.complainOfUnknown(lease) }
        let view = HistoryView(lease: lease, entries: entries)
        Console.out(options.output == .json ? view.json : view.table(wide: options.output == .wide))
        return 0
    }
}
