// Finds what PostgreSQL would refuse before it matters. A standby sends the claim's own statement
// for a lease that does not exist (Rehearse). `sidecar check` has more time: it executes every
// statement on a lease of its own and rolls back, so that it meets triggers and row filters as
// well. Then it looks at the real record: whether a claim can raise its epoch, and whether another
// transaction keeps its row locked.

import Clock
import Glibc
import Lease
import Postgres

/// Every statement of the protocol carried out on a lease of its own, in a transaction that is
/// rolled back.
///
/// It never waits for a lock. Of a live lease, only the row's lock is touched: taken if it is free,
/// and given back at once.
public struct FullRehearsal {
    /// What went wrong, and with what.
    public struct Problem: Equatable, Sendable {
        /// In one or two words: "claim", "history".
        public let step: String
        public let reason: String
        /// Whether a right is missing. The exit code tells this case from the rest.
        public let isAboutRights: Bool
    }

    private let statements: Statements
    private let real: Statements
    private let role: String
    private let schema: String?
    private let ask: (Query) throws -> QueryResult
    private let pause: () -> Void

    /// - Parameters:
    ///   - role: the role that needs what is missing.
    ///   - schema: SQL that makes the tables where there are none yet; rolled back, too.
    ///   - ask: runs one query in a session that is prepared as for `run`, and throws `ServerError` when it is refused.
    ///   - pause: between two tries to lock the record's row, which a renewal may hold for a moment.
    public init(
        _ statements: Statements, role: String, schema: String? = nil,
        pause: @escaping () -> Void = { usleep(100_000) }, ask: @escaping (Query) throws -> QueryResult
    ) {
        self.pause = pause
        real = statements
        self.schema = schema
        self.role = role
        self.statements = Statements(statements.writer.understudy)
        self.ask = ask
    }

    /// Carries everything out.
    /// - Throws: what `ask` throws besides `ServerError`: the session is gone.
    public func run() throws -> [Problem] {
        var problems: [Problem] = []
        for part in [lease, member, history, notify, record] {
            // A problem of every part is reported once.
            if let problem = try attempt(part), !problems.contains(problem) { problems.append(problem) }
        }
        if schema == nil, let problem = try lock() { problems.append(problem) }
        return problems
    }

    /// One part in a transaction of its own.
    private func attempt(_ part: (inout String) throws -> String?) throws -> Problem? {
        // Waits for no lock, and ends by itself if this process is stopped in between.
        _ = try ask(
            .script("BEGIN; SET LOCAL lock_timeout = 250; SET LOCAL idle_in_transaction_session_timeout = 2000"))
        var step = ""
        var problem: Problem?
        do {
            if let schema {
                step = "schema"
                _ = try ask(.script(schema))
            }
            if let reason = try part(&step) { problem = Problem(step: step, reason: reason, isAboutRights: false) }
        } catch let error as ServerError {
            problem = Problem(
                step: step, reason: Advice.text(error, role: role), isAboutRights: error.sqlState == "42501")
        } catch let error as UnreadableReply {
            problem = Problem(step: step, reason: "\(error)", isAboutRights: false)
        }
        _ = try ask(.script("ROLLBACK; SELECT pg_advisory_unlock_all()"))
        return problem
    }

    private var ours: [BackendID] { statements.backend.map { [$0] } ?? [] }

    private func reply(_ statement: Statement, _ statements: Statements? = nil) throws -> Reply {
        let statements = statements ?? self.statements
        return try statements.reply(to: statement, try ask(statements.query(statement)))
    }

    private func seen(_ statements: Statements? = nil) throws -> Record? {
        guard case .observed(let observation) = try reply(.observe, statements) else { return nil }
        return observation.record
    }

    private func lease(_ step: inout String) throws -> String? {
        let ours = [statements.backend].compactMap { $0 }
        step = "read"
        _ = try seen()
        step = "create"
        _ = try reply(.create(ttl: statements.writer.timing.ttl, epochAbove: Epoch(0)))
        guard let record = try seen() else { return Advice.hidden }
        step = "claim"
        guard case .claim(.claimed(let epoch, _)) = try reply(.claim(seen: record, epochAbove: Epoch(0))) else {
            return
                "a claim had no effect: a trigger, a rule or a row filter (row-level security) on sidecar.lease undoes it"
        }
        step = "renew"
        guard case .renewal(.renewed(let beat, _)) = try reply(.renew(epoch, ours: ours)) else {
            return "a renewal had no effect: a trigger, a rule or a row filter on sidecar.lease undoes it"
        }
        step = "fence"
        if let record = try seen() {
            _ = try reply(.terminateHolder(seen: record, strangers: .idleFor(statements.writer.timing.ttl)))
        }
        step = "resume"
        var last = beat
        if case .renewal(.renewed(let beat, _)) = try reply(.resume(epoch, ours: ours)) { last = beat }
        step = "release"
        guard case .released(true) = try reply(.release(epoch, beat: last)) else {
            return "a release had no effect: a trigger, a rule or a row filter on sidecar.lease undoes it"
        }
        step = "unlock"
        _ = try reply(.unlock)
        return nil
    }

    private func member(_ step: inout String) throws -> String? {
        step = "member"
        _ = try reply(.auxiliary(.register(leading: false, healthy: true)))
        _ = try reply(.auxiliary(.register(leading: false, healthy: true)))
        _ = try reply(.auxiliary(.leave))
        return nil
    }

    private func history(_ step: inout String) throws -> String? {
        step = "history"
        _ = try reply(.auxiliary(.historyBegin(Epoch(1), ago: .zero, previousRenewedAgo: .zero)))
        _ = try reply(.auxiliary(.historyEnd(Epoch(1), reason: .released(.plain), ago: .zero)))
        return nil
    }

    private func notify(_ step: inout String) throws -> String? {
        step = "notify"
        _ = try reply(.auxiliary(.notify))
        return nil
    }

    /// Tries the real name, because a row filter may let only some names pass. An existing record
    /// stays as it is.
    private func record(_ step: inout String) throws -> String? {
        step = "record"
        if let record = try seen(real) {
            guard record.epoch.rawValue > Advice.lastPlausibleEpoch else { return nil }
            return Advice.implausible(record.epoch, lease: real.writer.lease)
        }
        _ = try reply(.create(ttl: real.writer.timing.ttl, epochAbove: Epoch(0)), real)
        return try seen(real) == nil ? Advice.hidden : nil
    }

    /// Whether another transaction keeps the record's row locked, so that every claim and renewal
    /// would wait in vain. The other parts find what is refused for another reason.
    private func lock() throws -> Problem? {
        for attempt in 1...10 {
            if attempt > 1 { pause() }
            _ = try ask(
                .script("BEGIN; SET LOCAL lock_timeout = 250; SET LOCAL idle_in_transaction_session_timeout = 1000"))
            var isLocked = false
            do {
                _ = try ask(LockRecord(lease: real.writer.lease).query)
            } catch let error as ServerError {
                isLocked = error.sqlState == "55P03"
            }
            _ = try ask(.script("ROLLBACK"))
            guard isLocked else { return nil }
        }
        var reason = "another transaction keeps the record's row or the table locked, so claims and renewals fail"
        do {
            let statement = ListLockers()
            let lockers = try statement.read(try ask(statement.query))
            if !lockers.isEmpty { reason += ": " + lockers.map(\.description).joined(separator: "; ") }
        } catch is ServerError {
        } catch is UnreadableReply {
        }
        return Problem(step: "lock", reason: reason, isAboutRights: false)
    }
}
