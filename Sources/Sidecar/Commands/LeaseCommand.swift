// `sidecar lease`: who leads, since when, what is left, who holds the lock, who stands by; `sidecar lease history`: what
// happened. Read from the database; no sidecar needs to run.

import ArgumentParser
import Clock
import Glibc
import Metastore
import Postgres
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

            Exit code 0 when somebody leads, 1 when nobody does, 69 when the database cannot be asked.
            """,
        subcommands: [LeaseShowCommand.self, LeaseHistoryCommand.self], defaultSubcommand: LeaseShowCommand.self)
}

struct LeaseOptions: ParsableArguments {
    @OptionGroup var database: DatabaseOptions
    @Option(help: "Name of the lease (SIDECAR_LEASE; default airflow-scheduler).")
    var lease: String?
    @Option(name: .shortAndLong, help: "table, wide or json.")
    var output: LeaseFormat = .table

    /// A session on a database that has the schema, and the lease's name.
    func open() throws -> (tool: ToolSession, lease: String) {
        let environment = Environment.current
        let name = try leaseName(lease, environment: environment)
        let tool = try ToolSession.open(
            try database.source(environment), purpose: .look, allowPooler: try database.poolerAllowed(environment))
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
        abstract: "Show one lease (the default). Exit code 0 when somebody leads, 1 when nobody does.")

    @OptionGroup var options: LeaseOptions

    func execute() throws -> Int32 {
        let (tool, lease) = try options.open()
        let record = try tool.query(Overview(lease: lease).record)
        guard !record.rows.isEmpty else {
            let names = try tool.query(Overview.names).rows.compactMap { $0.first ?? nil }
            let known =
                names.isEmpty ? "there is none yet: start `sidecar run`" : "known: \(names.joined(separator: ", "))"
            Console.complain("no lease '\(lease)' in database \"\(tool.facts.database)\" (\(known))")
            return 1
        }
        let members = try tool.query(Overview(lease: lease).members)
        let view = LeaseView(record: record, members: members)
        Console.out(options.output == .json ? view.json : view.table(wide: options.output == .wide))
        return view.led ? 0 : 1
    }
}

struct LeaseHistoryCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "Show the last leaderships, newest first.")

    @OptionGroup var options: LeaseOptions
    @Option(help: "How many.")
    var limit = 20

    func execute() throws -> Int32 {
        let (tool, lease) = try options.open()
        guard (1...1000).contains(limit) else { throw Failure.usage("--limit takes 1 to 1000") }
        let history = try tool.query(Overview(lease: lease).history(limit: limit))
        if options.output == .json {
            let rows = (0..<history.rows.count).map { row in
                JSONObject([
                    ("epoch", .number(history.int64(row, "epoch"))), ("node", .text(history.string(row, "node"))),
                    ("instance", .text(history.string(row, "instance"))),
                    ("version", .text(history.string(row, "version"))),
                    ("started_at", .text(history.string(row, "started_at"))),
                    ("ended_at", .text(history.string(row, "ended_at"))),
                    ("lasted_ms", .number(history.int64(row, "lasted_ms"))),
                    ("reason", .text(history.string(row, "reason"))),
                ])
            }
            Console.out(JSONObject([("lease", .text(lease)), ("history", .list(rows))]).text)
            return 0
        }
        guard !history.rows.isEmpty else {
            Console.out("lease '\(lease)' has had no leader yet")
            return 0
        }
        var table = [["EPOCH", "NODE", "STARTED", "ENDED", "LASTED", "REASON"]]
        for row in 0..<history.rows.count {
            table.append([
                history.string(row, "epoch") ?? "", history.string(row, "node") ?? "",
                history.string(row, "started_at") ?? "", history.string(row, "ended_at") ?? "-",
                LeaseView.age(history.int64(row, "lasted_ms")),
                history.string(row, "ended_at") == nil ? "leads, as far as known" : history.string(row, "reason") ?? "",
            ])
        }
        Console.out(TextTable.render(table))
        return 0
    }
}
