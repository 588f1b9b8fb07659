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
            sidecar lease history [--limit N] and the same options

            Exit code 0 if there is a leader, 1 if there is none, 69 if the database does not answer.
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
        abstract: "Show one lease (the default). Exit code 0 if there is a leader, 1 if there is none.")

    @OptionGroup var options: LeaseOptions

    func execute() throws -> Int32 {
        let (tool, lease) = try options.open()
        guard let record = try tool.ask(ShowLease(lease: lease)) else {
            let names = try tool.ask(ListLeases())
            let known =
                names.isEmpty
                ? "there is no lease yet: start `sidecar run`" : "known leases: \(names.joined(separator: ", "))"
            Console.complain("no lease '\(lease)' in database \"\(tool.facts.database)\" (\(known))")
            return 1
        }
        let view = LeaseView(record: record, members: try tool.ask(ListMembers(lease: lease)))
        Console.out(options.output == .json ? view.json : view.table(wide: options.output == .wide))
        return view.led ? 0 : 1
    }
}

struct LeaseHistoryCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "Show the last leaderships, newest first.")

    @OptionGroup var options: LeaseOptions
    @Option(help: "How many leaderships to show, 1 to 1000.")
    var limit = 20

    func execute() throws -> Int32 {
        let (tool, lease) = try options.open()
        guard (1...1000).contains(limit) else { throw Failure.usage("--limit must be a number from 1 to 1000") }
        let history = try tool.ask(ListHistory(lease: lease, limit: limit))
        if options.output == .json {
            let rows = history.map { entry in
                JSONObject([
                    ("epoch", .number(entry.epoch?.rawValue)), ("node", .text(entry.node)),
                    ("instance", .text(entry.instance?.rawValue)), ("version", .text(entry.version)),
                    ("started_at", .text(entry.startedAt)), ("ended_at", .text(entry.endedAt)),
                    ("lasted_ms", .number(entry.lasted?.milliseconds)), ("reason", .text(entry.reason)),
                ])
            }
            Console.out(JSONObject([("lease", .text(lease)), ("history", .list(rows))]).text)
            return 0
        }
        guard !history.isEmpty else {
            Console.out("lease '\(lease)' has had no leader yet")
            return 0
        }
        var table = [["EPOCH", "NODE", "STARTED", "ENDED", "LASTED", "REASON"]]
        for entry in history {
            table.append([
                entry.epoch.map { "\($0)" } ?? "", entry.node ?? "", entry.startedAt ?? "", entry.endedAt ?? "-",
                LeaseView.age(entry.lasted),
                entry.endedAt == nil ? "leads (no end is recorded)" : entry.reason ?? "",
            ])
        }
        Console.out(TextTable.render(table))
        return 0
    }
}
