// `sidecar check`: everything `run` will need, tried one by one: a line each, ok or what to do.

import ArgumentParser
import Clock
import Glibc
import Guard
import Lease
import Metastore
import Postgres

struct CheckCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check settings, connection, privileges and latency before the first run.")

    @OptionGroup var database: DatabaseOptions
    @Option(help: "Name of the lease (SIDECAR_LEASE; default airflow-scheduler).")
    var lease: String?
    @Option(help: "How long the lease will last (SIDECAR_TTL; default 10s).")
    var ttl: String?
    @Option(help: "How often the leader will renew (SIDECAR_RENEW_INTERVAL; default TTL / 5).")
    var renewInterval: String?
    @Option(help: "How much before the TTL the child will be killed (SIDECAR_MARGIN; default TTL / 5).")
    var margin: String?

    func execute() throws -> Int32 {
        var report = CheckReport()
        let environment = Environment.current
        var options = RunOptions()
        options.databaseURL = database.databaseUrl
        options.lease = lease
        options.ttl = ttl
        options.renewInterval = renewInterval
        options.margin = margin
        options.allowSessionPooler = database.allowSessionPooler
        let settings: RunSettings
        do {
            settings = try RunSettings(options: options, command: [], environment: environment)
        } catch let failure as Failure {
            report.bad("settings", failure.message)
            return failure.code
        }
        report.good(
            "settings",
            "lease \(settings.identity.lease), node \(settings.identity.node), TTL \(Durations.text(settings.timing.ttl)), database from \(settings.database.origin)"
        )
        if let caution = settings.database.caution { report.warn("settings", caution) }
        checkProcessor(Resources(), settings.timing, &report)
        do {
            try checkServer(settings, &report)
        } catch let failure as Failure {
            report.bad("database", failure.message)
            return failure.code
        }
        return report.code
    }

    private func checkServer(_ settings: RunSettings, _ report: inout CheckReport) throws {
        let tool = try ToolSession.open(
            settings.database, purpose: .look, allowPooler: settings.allowSessionPooler)
        let facts = tool.facts
        report.good(
            "connection",
            "\(facts.user) in \(facts.database) at \(tool.session.peer ?? "?"), a primary, "
                + (facts.backendPID == tool.session.backendPID
                    ? "no pooler in between" : "through a pooler that must be in session mode (taken on your word)"))
        let encrypted = tool.session.isTLS ?? false
        report.good("TLS", encrypted ? "on" : "off (sslmode=\(settings.database.settings.sslmode))")
        report.good("server", "PostgreSQL \(facts.serverVersion / 10000)")
        try checkSchema(tool, &report)
        try checkFencing(tool, settings.database, &report)
        checkLatency(tool, settings.timing, &report)
    }

    /// R2: whether a tree can be killed in time within this container's CPU limit.
    private func checkProcessor(_ resources: Resources, _ timing: Timing, _ report: inout CheckReport) {
        guard let limit = resources.limit else { return report.good("processor", "no CPU limit") }
        let advice = ProcessorAdvice(limit: limit, throttling: resources.throttling, timing: timing)
        if let warning = advice.warning {
            report.warn("processor", warning)
        } else {
            report.good("processor", advice.limitText)
        }
    }

    private func checkSchema(_ tool: ToolSession, _ report: inout CheckReport) throws {
        let facts = tool.facts
        if facts.schemaVersion == 0 {
            let may = try tool.query(Query("SELECT has_database_privilege(current_database(), 'CREATE') AS may"))
            if may.bool(0, "may") == true {
                report.good("schema", "not there yet; `run` or `sidecar migrate` creates it")
            } else {
                report.bad(
                    "schema", PreparationError.notAllowed(user: facts.user, database: facts.database).description,
                    code: Failure.noPermission)
            }
            return
        }
        let rights = try tool.query(
            Query(
                """
                SELECT bool_and(has_table_privilege('sidecar.' || t.name, r.right)) AS may
                FROM unnest(ARRAY['lease', 'member', 'history']) AS t (name),
                    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r ("right")
                """))
        if rights.bool(0, "may") == true {
            report.good("schema", "version \(facts.schemaVersion), readable and writable")
        } else {
            report.bad(
                "schema", PreparationError.tablesNotAllowed(user: facts.user, database: facts.database).description,
                code: Failure.noPermission)
        }
    }

    /// R8. A role without the right is no failure: most children connect as the sidecar does.
    private func checkFencing(_ tool: ToolSession, _ source: DatabaseSource, _ report: inout CheckReport) throws {
        let rights = try tool.query(
            Query(
                """
                SELECT pg_has_role('pg_signal_backend', 'USAGE') AS may,
                    (SELECT me.rolsuper FROM pg_roles AS me WHERE me.rolname = current_user) AS super
                """))
        let user = tool.facts.user
        if rights.bool(0, "super") == true {
            report.good("fencing", "may end the sessions of any role's child")
        } else if rights.bool(0, "may") == true {
            report.good("fencing", "may end the sessions of any role's child, but for a superuser's")
        } else if source.isAirflows {
            report.good("fencing", "may end the sessions of a child that connects as \"\(user)\", as Airflow does")
        } else {
            report.warn(
                "fencing",
                "may end the sessions only of a child that connects as \"\(user)\"; if the command connects as another role, GRANT pg_signal_backend TO \"\(user)\" (a superuser's sessions stay out of reach)"
            )
        }
    }

    private func checkLatency(_ tool: ToolSession, _ timing: Timing, _ report: inout CheckReport) {
        var slowest = Duration.zero
        for _ in 0..<5 {
            let start = BootClock.now()
            guard (try? tool.query(Query("SELECT 1"))) != nil else {
                return report.bad("latency", "the connection broke while measuring")
            }
            slowest = max(slowest, BootClock.now().since(start))
        }
        let shown =
            "slowest of five round trips \(slowest.nanoseconds / 1_000_000) ms, limit of a call \(Durations.text(timing.callLimit))"
        if slowest * 4 < timing.callLimit {
            report.good("latency", shown)
        } else {
            report.bad("latency", "\(shown): raise --ttl")
        }
    }
}

/// What a CPU limit means for a TTL.
struct ProcessorAdvice {
    let limit: Resources.Limit
    let throttling: Resources.Throttling?
    let timing: Timing

    var limitText: String { "CPU limit \(limit.processors)m" }

    /// Nil where nothing speaks against it.
    var warning: String? {
        let remedy = "raise the CPU limit or --ttl"
        if let throttling, throttling.periods >= 50, throttling.throttled * 10 > throttling.periods {
            let share = throttling.throttled * 100 / throttling.periods
            return
                "\(limitText), which made this container wait in \(share) % of its periods: a leader that waits may lose the lease early; \(remedy)"
        }
        // What of the processor the margin holds has to do for killing the whole tree.
        let work = timing.margin * Int(limit.processors) / 1000
        guard work < .milliseconds(100) else { return nil }
        return
            "\(limitText): the margin of \(Durations.text(timing.margin)) holds \(work.milliseconds)ms of processor time, enough to kill about \(work.milliseconds * 2) small processes; \(remedy)"
    }
}

/// Lines of the check.
struct CheckReport {
    /// The first failure's exit code.
    private(set) var code: Int32 = 0

    func good(_ what: String, _ text: String) { Console.out("ok    \(pad(what)) \(text)") }

    /// Works, with a limit that somebody has to know of.
    func warn(_ what: String, _ text: String) { Console.out("warn  \(pad(what)) \(text)") }

    mutating func bad(_ what: String, _ text: String, code: Int32 = 1) {
        if self.code == 0 { self.code = code }
        Console.out("FAIL  \(pad(what)) \(text)")
    }

    private func pad(_ word: String) -> String { word + String(repeating: " ", count: max(0, 10 - word.count)) }
}
