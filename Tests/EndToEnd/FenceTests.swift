// R8 where it is needed: a child that survives everything, because its keeper is dead and its guard stopped. It shows what
// the fence takes from it, what it leaves it (everything between two renewals), and which writes end with the claim.

import Clock
import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct Fence {
        @Test func aSurvivorIsThrownOutByEveryRenewalAndItsGuardedWritesEndWithTheClaim() async throws {
            // The first tree lives on beside all the others: keeper and guard are out of action together.
            let exempt: @Sendable (Recording) -> Set<RecordedTree.ID> = { Set($0.trees.prefix(1).map(\.id)) }
            try await Scenario.run(on: try Servers.shared(), exempt: exempt) { scenario in
                let evidence = try Evidence(scenario)
                let first = try scenario.start("a", command: evidence.command)
                let old = try scenario.leader().tree
                let oldEpoch = old.id.epoch
                try eventually("all its sessions write") { try evidence.isAtWork(oldEpoch) }
                try evidence.noteFences()
                let second = try scenario.start("b", command: evidence.command)
                try eventually("b stands by") { second.readiness?.role == "standby" }

                let guardian = try #require(first.guardian)
                defer { kill(guardian, SIGKILL) }
                kill(guardian, SIGSTOP)
                first.signalKeeper(SIGKILL)
                try eventually("b claims") {
                    try evidence.look()
                    return try evidence.fences(after: oldEpoch) > 0
                }
                let new = try scenario.leader(after: old.id)
                #expect(new.sidecar === second)
                try eventually("the new leader has renewed six times") {
                    try evidence.look()
                    return try evidence.fences(of: new.tree.id.epoch) > 6
                }
                #expect(scenario.isAlive(old.id), "who killed it?\n\(scenario.report)")
                // Before the new child starts, not at the first renewal after it.
                #expect(
                    try evidence.terminated(before: "starting the command", in: second) == evidence.sessions,
                    "\(scenario.report)")

                // A hand-over changes nothing for it.
                let third = try scenario.start("c", command: evidence.command)
                try eventually("c stands by") { third.readiness?.role == "standby" }
                second.signalKeeper(SIGTERM)
                let last = try scenario.leader(after: new.tree.id)
                #expect(last.sidecar === third)
                try eventually("the one after it has renewed thrice") {
                    try evidence.look()
                    return try evidence.fences(of: last.tree.id.epoch) > 3
                }
                #expect(scenario.isAlive(old.id), "who killed it?\n\(scenario.report)")
                try evidence.expectThrownOut(oldEpoch, by: [new.tree.id.epoch, last.tree.id.epoch])
                for epoch in [new.tree.id.epoch, last.tree.id.epoch] {
                    try evidence.expectGuardedWritesEnded(oldEpoch, with: epoch)
                    #expect(try evidence.sessionsEverUsed(epoch) == evidence.sessions, "a fence hit its own child")
                }

                kill(guardian, SIGCONT)
                try scenario.gone(old.id)
                try scenario.steady(last.tree.id)
                // It and nobody else needs the exemption.
                let overlaps = IntervalChecker.overlaps(in: scenario.recording)
                #expect(overlaps.contains { $0.first == old.id && $0.second == new.tree.id }, "\(overlaps)")
                #expect(
                    overlaps.allSatisfy { $0.first == old.id || $0.description.contains(old.lockName) }, "\(overlaps)")
                #expect(scenario.recording.trees.count == 3, "\(scenario.report)")
            }
        }

        @Test func whatTheRoleMayNotEndIsSaidOnceAndByCheckBefore() async throws {
            let exempt: @Sendable (Recording) -> Set<RecordedTree.ID> = { Set($0.trees.prefix(1).map(\.id)) }
            // Roles belong to the whole server, so it has to be this test's own.
            let server = try PrivatePostgres.started()
            defer { server.remove() }
            try await Scenario.run(on: server, exempt: exempt) { scenario in
                let admin = try scenario.session()
                try admin.rows("CREATE ROLE worker LOGIN")
                let check = try scenario.command(["check"])
                #expect(check.exit == .code(0), "a role without the right is no failure: \(check.output)")
                let warnings = check.output.split(separator: "\n").filter { $0.hasPrefix("warn ") }
                #expect(warnings.count == 1, "\(check.output)")
                for word in ["fencing", "GRANT pg_signal_backend TO \"airflow\"", "superuser"] {
                    #expect(warnings.first?.contains(word) == true, "\(word): \(check.output)")
                }

                // A session that stays, one that comes and goes, and a superuser's.
                let script = """
                    worker=$(echo "$0" | sed s/airflow@/worker@/) postgres=$(echo "$0" | sed s/airflow@/postgres@/)
                    "\(builtProducts)/survivor" "$worker" 'BEGIN' 'SELECT pg_terminate_backend(pg_backend_pid())' &
                    "\(builtProducts)/survivor" "$postgres" 'BEGIN' &
                    exec "$@"
                    """
                let survivors =
                    ["sh", "-c", script, scenario.url(), SidecarProcess.recorder, scenario.recordings]
                    + Scenario.allShapes
                let first = try scenario.start("a", command: survivors)
                let old = try scenario.leader().tree
                func sessions(_ role: String) throws -> Int {
                    let sql = """
                        SELECT count(*) FROM pg_stat_activity WHERE usename = '\(role)' AND state = 'idle in transaction'
                            AND application_name LIKE 'sidecar:\(old.id.epoch):%'
                        """
                    return try admin.value(sql).flatMap { Int($0) } ?? -1
                }
                try eventually("its sessions are there") { try sessions("worker") == 1 && sessions("postgres") == 1 }
                let recorder = [SidecarProcess.recorder, scenario.recordings] + Scenario.allShapes
                let second = try scenario.start("b", command: recorder)
                try eventually("b stands by") { second.readiness?.role == "standby" }
                let guardian = try #require(first.guardian)
                defer { kill(guardian, SIGKILL) }
                kill(guardian, SIGSTOP)
                first.signalKeeper(SIGKILL)
                _ = try scenario.leader(after: old.id)
                for _ in 1...6 { try scenario.justRenewed(second) }
                #expect(try sessions("worker") == 1 && sessions("postgres") == 1, "who ended them?\n\(scenario.report)")

                func said() -> [String] {
                    second.log.split(separator: "\n").map(String.init).filter { $0.contains("cannot terminate") }
                }
                #expect(said().count == 1, "\(scenario.report)")
                for word in [
                    "WARNING", "\"worker\"", "GRANT pg_signal_backend TO \"airflow\"", "\"postgres\"", "superuser",
                ] {
                    #expect(said().first?.contains(word) == true, "\(word): \(said())")
                }

                // As it says. It takes effect in the session that is there.
                try admin.rows("GRANT pg_signal_backend TO airflow")
                try eventually("only the superuser's is left alone") { said().count == 2 }
                for _ in 1...4 { try scenario.justRenewed(second) }
                #expect(try sessions("postgres") == 1)
                #expect(said().count == 2 && said().last?.contains("worker") == false, "\(said())")
                #expect(try scenario.command(["check"]).output.contains("ok    fencing"))
                kill(guardian, SIGCONT)
                try scenario.gone(old.id)
            }
        }
    }
}

/// What the survivors write into the scenario's database, and what the test saw of their sessions there. All of it is
/// dated by the server's clock, and asked of the server.
private struct Evidence {
    let scenario: Scenario
    let observer: DirectSession
    /// How many sessions each child holds.
    let sessions = 5

    /// As any child would: without a look at the lease.
    private static let plain = "INSERT INTO effect (epoch, kind) VALUES ($SIDECAR_EPOCH, 'plain')"
    /// Its row is never committed.
    private static let open = "BEGIN; INSERT INTO effect (epoch, kind) VALUES ($SIDECAR_EPOCH, 'open')"
    /// docs/operations.md, "Fence your own writes", the first pattern.
    private static let guarded = """
        INSERT INTO effect (epoch, kind) SELECT $SIDECAR_EPOCH, 'guarded'
        WHERE EXISTS (SELECT FROM sidecar.lease WHERE name = '$SIDECAR_LEASE' AND epoch = $SIDECAR_EPOCH)
        """
    /// The second pattern, in a transaction that takes its time.
    private static let strict = """
        BEGIN;
        INSERT INTO effect (epoch, kind) SELECT $SIDECAR_EPOCH, 'strict'
        FROM (SELECT FROM token WHERE epoch = $SIDECAR_EPOCH FOR SHARE) AS t;
        SELECT pg_sleep(0.05);
        COMMIT
        """

    /// The second pattern's start, a survivor with five sessions, and a recorder.
    var command: [String] {
        let takeToken = "UPDATE token SET epoch = $SIDECAR_EPOCH WHERE epoch < $SIDECAR_EPOCH"
        let count = """
            INSERT INTO earlier SELECT $SIDECAR_EPOCH, count(*), clock_timestamp() FROM effect
            WHERE kind = 'strict' AND epoch < $SIDECAR_EPOCH
            """
        let statements = [Self.plain, Self.plain, Self.open, Self.guarded, Self.strict].map { "\"\($0)\"" }
        let script = """
            psql -X -q -d "$0" -c "\(takeToken)" -c "\(count)" || exit 1
            "\(builtProducts)/survivor" "$0" \(statements.joined(separator: " ")) &
            exec "$@"
            """
        return ["sh", "-c", script, scenario.url(), SidecarProcess.recorder, scenario.recordings] + Scenario.allShapes
    }

    init(_ scenario: Scenario) throws {
        self.scenario = scenario
        observer = try scenario.session()
        try observer.rows(
            """
            CREATE FUNCTION own_start() RETURNS timestamptz LANGUAGE sql AS
                'SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())';
            CREATE TABLE effect (
                epoch bigint, kind text, pid int DEFAULT pg_backend_pid(), started timestamptz DEFAULT own_start(),
                asked timestamptz DEFAULT statement_timestamp(), written timestamptz DEFAULT clock_timestamp());
            CREATE TABLE token (epoch bigint);
            INSERT INTO token VALUES (0);
            -- How many strict writes of earlier epochs there were once the token had been taken.
            CREATE TABLE earlier (epoch bigint, strict bigint, at timestamptz);
            GRANT ALL ON effect, token, earlier TO airflow;
            CREATE TABLE sighting (epoch bigint, pid int, started timestamptz, at timestamptz);
            CREATE TABLE fence (epoch bigint, beat bigint, began timestamptz, ended timestamptz);
            CREATE VIEW life AS
                SELECT epoch, pid, started, min(at) AS first, max(at) AS last FROM (
                    SELECT epoch, pid, started, written AS at FROM effect
                    UNION ALL SELECT epoch, pid, started, at FROM sighting) AS signs
                GROUP BY epoch, pid, started;
            """)
    }

    /// From now on every claim and renewal is dated: `began` before it looked for sessions, `ended` after.
    func noteFences() throws {
        try observer.rows(
            """
            CREATE FUNCTION note_fence() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                INSERT INTO public.fence VALUES (NEW.epoch, NEW.beat, statement_timestamp(), clock_timestamp());
                RETURN NULL;
            END $$;
            CREATE TRIGGER note_fence AFTER UPDATE ON sidecar.lease FOR EACH ROW WHEN (NOT NEW.released)
                EXECUTE FUNCTION note_fence();
            """)
    }

    /// Notes which sessions of children are there.
    func look() throws {
        try observer.rows(
            """
            INSERT INTO sighting
            SELECT split_part(application_name, ':', 2)::bigint, pid, backend_start, statement_timestamp()
            FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sidecar:%'
            """)
    }

    /// All the sessions of that epoch's child are there, one of them idle in a transaction, and the others have written.
    func isAtWork(_ epoch: String) throws -> Bool {
        try observer.value(
            """
            SELECT count(*) = \(sessions) AND count(*) FILTER (WHERE state = 'idle in transaction') > 0
                AND (SELECT count(DISTINCT pid) = \(sessions - 1) FROM effect WHERE epoch = \(epoch))
            FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sidecar:\(epoch):%'
            """) == "t"
    }

    func fences(of epoch: String) throws -> Int { try number("SELECT count(*) FROM fence WHERE epoch = \(epoch)") }

    func fences(after epoch: String) throws -> Int { try number("SELECT count(*) FROM fence WHERE epoch > \(epoch)") }

    /// How many sessions that epoch's child has ever had.
    func sessionsEverUsed(_ epoch: String) throws -> Int {
        try number("SELECT count(*) FROM life WHERE epoch = \(epoch)")
    }

    /// How many sessions the sidecar said to have ended before it said that.
    func terminated(before line: String, in sidecar: SidecarProcess) throws -> Int {
        let before = sidecar.log.components(separatedBy: line)[0]
        let words = before.components(separatedBy: "terminated ").dropFirst().map { $0.split(separator: " ")[0] }
        return words.compactMap { Int($0) }.reduce(0, +)
    }

    /// A fence sees every session that was there before it began, and none of those is there any more when the next begins.
    func expectThrownOut(_ old: String, by epochs: [String]) throws {
        let fences = "(SELECT * FROM fence WHERE epoch IN (\(epochs.joined(separator: ", ")))) AS f"
        let claim = "(SELECT min(began) FROM \(fences))"
        let outlived = try number(
            """
            SELECT max(count) FROM (
                SELECT count(f.began) FROM life AS l LEFT JOIN \(fences) ON l.first < f.began AND f.began < l.last
                WHERE l.epoch = \(old) GROUP BY l.pid, l.started) AS each
            """)
        let figures = try #require(
            try observer.rows(
                """
                SELECT count(*) FILTER (WHERE first < \(claim)), max(last) FILTER (WHERE first < \(claim)) - \(claim),
                    count(*) FILTER (WHERE first > \(claim)), max(last - first) FILTER (WHERE first > \(claim)),
                    (SELECT count(*) FROM effect WHERE epoch = \(old) AND kind = 'plain' AND asked > \(claim)),
                    (SELECT count(*) FROM \(fences))
                FROM life WHERE epoch = \(old)
                """
            ).first
        ).map { $0 ?? "-" }
        let story = """
            \(figures[0]) sessions from before the claim were there until \(figures[1]) after it began; \(figures[2]) \
            later ones for at most \(figures[3]) each, with \(figures[4]) unguarded writes; \(figures[5]) fences, one \
            each \(Scenario.ttl / 5); the longest outlived \(outlived)
            """
        if ProcessInfo.processInfo.environment["SIDECAR_TEST_TIMELINE"] != nil { print(story) }
        #expect(outlived <= 1, "\(story)\n\(scenario.report)")
        #expect(figures[0] == "\(sessions)", "\(story)")
        // The limit of R8, so that nobody takes it for more: back at once, and writing until the next renewal.
        #expect(Int(figures[2]) ?? 0 >= sessions * 4 && Int(figures[4]) ?? 0 > 0, "it did not come back: \(story)")
    }

    /// The new child ran only after its claim had been committed: what was asked later saw the new epoch.
    func expectGuardedWritesEnded(_ old: String, with new: String) throws {
        let since = "(SELECT at FROM earlier WHERE epoch = \(new))"
        let before = try number("SELECT count(*) FROM effect WHERE epoch = \(old) AND kind = 'guarded'")
        let after = try number(
            "SELECT count(*) FROM effect WHERE epoch = \(old) AND kind = 'guarded' AND asked > \(since)")
        #expect(before > 0 && after == 0, "guarded writes: \(before), \(after) of them after the claim")
        // Not one transaction was committed after the token had been taken: no clock needed.
        let strict = try number(
            "SELECT count(*) FROM effect WHERE epoch < \(new) AND kind = 'strict'")
        let atTaking = try number("SELECT strict FROM earlier WHERE epoch = \(new)")
        #expect(strict > 0 && strict == atTaking, "strict writes: \(strict), when the token was taken \(atTaking)")
    }

    private func number(_ sql: String) throws -> Int { try observer.value(sql).flatMap { Int($0) } ?? -1 }
}

extension RecordedTree {
    /// How an overlap's description names it when the kernel's lock gave it away.
    fileprivate var lockName: String { "\(id.epoch)-\(id.instance)-\(id.main)" }
}
