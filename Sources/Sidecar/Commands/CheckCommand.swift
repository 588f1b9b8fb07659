// `sidecar check`: tries everything that `run` will need, one by one. Each line says ok, or what to do.

import ArgumentParser
import Clock
import Glibc
import Guard
import Lease
import Metastore
import Postgres
import Settings
import Text

struct CheckCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check settings, connection, privileges and latency before the first run.")

    @OptionGroup var options: SettingOptions<ForCheck>

    func execute() throws -> Int32 {
        var report = CheckReport()
        let given = options.reader()
        let settings: RunSettings
        do {
            settings = try RunSettings(given, command: [])
        } catch let failure as Failure {
            for warning in UnknownVariables.warnings(given.environment) { report.warn("settings", warning) }
            report.bad("settings", failure.message)
            return failure.code
        }
        report.good(
            "settings",
            "lease \(settings.identity.lease), node \(settings.identity.node), TTL \(Durations.text(settings.timing.ttl)), database from \(settings.database.origin)"
        )
        for caution in settings.cautions { report.warn("settings", caution) }
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
            "role \(facts.user), database \(facts.database), server \(tool.session.peer ?? "?"), a primary, "
                + (facts.backendPID == tool.session.backendPID
                    ? "no pooler in between" : "through a pooler, which must be in session mode (cannot be checked)"))
        let encrypted = tool.session.isTLS ?? false
        report.good("TLS", encrypted ? "on" : "off (sslmode=\(settings.database.settings.sslmode))")
        report.good("server", "PostgreSQL \(facts.serverVersion / 10000)")
        if try checkSchema(tool, &report) { try rehearse(tool, settings, &report) }
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

    /// Whether there are tables, or may be made, to try the statements on.
    private func checkSchema(_ tool: ToolSession, _ report: inout CheckReport) throws -> Bool {
        let facts = tool.facts
        if facts.schemaVersion == 0 {
            let may = try tool.query(Query("SELECT has_database_privilege(current_database(), 'CREATE') AS may"))
            if may.bool(0, "may") == true {
                report.good("schema", "does not exist yet; `run` or `sidecar migrate` creates it")
                return true
            }
            report.bad(
                "schema", PreparationError.notAllowed(user: facts.user, database: facts.database).description,
                code: Failure.noPermission)
            return false
        }
        guard Schema.upgrade(from: facts.schemaVersion) == nil else {
            report.warn(
                "schema",
                "version \(facts.schemaVersion); `run` or `sidecar migrate` upgrades it to \(Schema.current); check again after that, because the statements were not tried"
            )
            return false
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
            return true
        }
        report.bad(
            "schema", PreparationError.tablesNotAllowed(user: facts.user, database: facts.database).description,
            code: Failure.noPermission)
        return false
    }

    /// Everything that `run` will ask of the database, executed and rolled back, with its time limits and under this
    /// node's name.
    private func rehearse(_ tool: ToolSession, _ settings: RunSettings, _ report: inout CheckReport) throws {
        let timing = settings.timing
        _ = try tool.query(
            Preparation.settings(
                callLimit: timing.callLimit, idleLimit: timing.ttl * 3 / 2, serverVersion: tool.facts.serverVersion))
        var statements = Statements(identity: settings.identity, timing: timing, version: Version.current)
        statements.database = tool.facts.database
        statements.backend = tool.facts.backend
        let schema = tool.facts.schemaVersion == 0 ? Schema.upgrade(from: 0) : nil
        let problems: [FullRehearsal.Problem]
        do {
            problems = try FullRehearsal(statements, role: tool.facts.grantee, schema: schema) { query in
                try tool.session.query(query, limit: ToolSession.limit)
            }.run()
        } catch let failure as SessionFailure {
            throw Failure.unavailable("\(failure)")
        }
        for problem in problems {
            report.bad(
                "statements", "\(problem.step): \(problem.reason)",
                code: problem.isAboutRights ? Failure.noPermission : 1)
        }
        if problems.isEmpty {
            report.good("statements", "all tried on a lease of the check's own, and rolled back")
        }
    }

    /// R8. A missing right is not a failure, because most commands connect with the sidecar's own role.
    ///
    /// A session belongs to the role that logged in, and `ALTER ROLE ... SET role` may have changed the role that it
    /// works as. So the sidecar can terminate the sessions of a command with the same login only if it works as that
    /// login.
    private func checkFencing(_ tool: ToolSession, _ source: DatabaseSource, _ report: inout CheckReport) throws {
        let rights = try tool.query(
            Query(
                """
                SELECT pg_has_role('pg_signal_backend', 'USAGE') AS may,
                    pg_has_role(session_user, current_user, 'USAGE') AS inherits,
                    (SELECT me.rolsuper FROM pg_roles AS me WHERE me.rolname = current_user) AS super
                """))
        let (facts, user) = (tool.facts, tool.facts.login)
        if rights.bool(0, "super") == true {
            report.good("fencing", "may terminate the command's sessions, whatever role it connects as")
        } else if rights.bool(0, "may") == true {
            report.good("fencing", "may terminate the command's sessions, unless it connects as a superuser")
        } else if facts.login != facts.user, rights.bool(0, "inherits") != true {
            report.warn(
                "fencing",
                "logs in as \"\(user)\" but works as \"\(facts.user)\", which may not terminate the sessions of \"\(user)\": GRANT pg_signal_backend, pg_read_all_stats TO \"\(facts.grantee)\", or let \"\(user)\" inherit the rights of \"\(facts.user)\""
            )
        } else if facts.assumed != nil {
            report.warn(
                "fencing",
                "may terminate the command's sessions only if it logs in as \"\(user)\"; if other nodes or their commands log in as other roles (credentials made for each node), GRANT pg_signal_backend, pg_read_all_stats TO \"\(facts.grantee)\""
            )
        } else if source.isAirflows {
            report.good(
                "fencing", "may terminate the command's sessions if it connects as \"\(user)\", as Airflow does")
        } else {
            report.warn(
                "fencing",
                "may terminate the command's sessions only if it connects as \"\(user)\"; if it connects as another role, GRANT pg_signal_backend TO \"\(user)\" (this does not cover a superuser's sessions)"
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
            "slowest of five round trips \(slowest.nanoseconds / 1_000_000) ms; the time limit of a statement is \(Durations.text(timing.callLimit))"
        if slowest * 4 < timing.callLimit {
            report.good("latency", shown)
        } else {
            report.bad("latency", "\(shown): raise --ttl")
        }
    }
}

/// Whether a CPU limit is enough for a TTL.
struct ProcessorAdvice {
    let limit: Resources.Limit
    let throttling: Resources.Throttling?
    let timing: Timing

    var limitText: String { "CPU limit \(limit.processors)m" }

    /// The warning; nil if the limit is enough.
    var warning: String? {
        let remedy = "raise the CPU limit or --ttl"
        if let throttling, throttling.periods >= 50, throttling.throttled * 10 > throttling.periods {
            let share = throttling.throttled * 100 / throttling.periods
            return
                "\(limitText), which throttled this container in \(share) % of the scheduling periods: a throttled leader may lose the lease early; \(remedy)"
        }
        // The processor time within the margin must suffice to kill the whole tree.
        let work = timing.margin * Int(limit.processors) / 1000
        guard work < .milliseconds(100) else { return nil }
        return
            "\(limitText): in the \(Durations.text(timing.margin)) for killing the command (--margin), this limit allows \(work.milliseconds)ms of processor time, enough for about \(work.milliseconds * 2) small processes; \(remedy)"
    }
}

/// Lines of the check.
struct CheckReport {
    /// The first failure's exit code.
    private(set) var code: Int32 = 0

    func good(_ what: String, _ text: String) { Console.out("ok    \(pad(what)) \(text)") }

    /// Works, with a limitation that people must know.
    func warn(_ what: String, _ text: String) { Console.out("warn  \(pad(what)) \(text)") }

    mutating func bad(_ what: String, _ text: String, code: Int32 = 1) {
        if self.code == 0 { self.code = code }
        Console.out("FAIL  \(pad(what)) \(text)")
    }

    private func pad(_ word: String) -> String { word + String(repeating: " ", count: max(0, 10 - word.count)) }
}
