// What `sidecar check` and a waiting standby find out before a claim is needed: each way in which a database refuses claims
// although it can be connected to and its tables may be written, and that finding out leaves nothing behind.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

/// One way to spoil a database. `rehearsal`: a claim that finds no row meets it, too.
struct Spoiled: CustomTestStringConvertible, Sendable {
    let name: String
    let sql: String
    let step: String
    let says: String
    let rehearsal: Bool

    var testDescription: String { name }

    static let all = [
        Spoiled(
            name: "no replica identity on a published table",
            sql: "CREATE PUBLICATION p FOR ALL TABLES; ALTER TABLE sidecar.lease REPLICA IDENTITY NOTHING",
            step: "claim", says: "REPLICA IDENTITY DEFAULT", rehearsal: true),
        Spoiled(
            name: "no right to terminate", sql: "REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC",
            step: "claim",
            says: "GRANT EXECUTE on that function to \"keeper\"", rehearsal: true),
        Spoiled(
            name: "no right to lock", sql: "REVOKE EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) FROM PUBLIC",
            step: "claim", says: "GRANT EXECUTE", rehearsal: true),
        Spoiled(
            name: "no right to notify", sql: "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
            step: "notify",
            says: "GRANT EXECUTE", rehearsal: false),
        Spoiled(
            name: "a column is missing", sql: "ALTER TABLE sidecar.lease DROP COLUMN requested_by", step: "claim",
            says: "not as `sidecar migrate` made it", rehearsal: true),
        Spoiled(
            name: "a column too many", sql: "ALTER TABLE sidecar.lease ADD COLUMN x int NOT NULL", step: "create",
            says: "not as `sidecar migrate` made it", rehearsal: false),
        Spoiled(
            name: "the history's id is no identity", sql: "ALTER TABLE sidecar.history ALTER COLUMN id DROP IDENTITY",
            step: "history", says: "not as `sidecar migrate` made it", rehearsal: false),
        Spoiled(
            name: "a trigger refuses",
            sql: """
                CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END';
                CREATE TRIGGER t BEFORE UPDATE ON sidecar.lease FOR EACH ROW EXECUTE FUNCTION f()
                """, step: "claim", says: "a trigger on the table refuses it", rehearsal: false),
        Spoiled(
            name: "a trigger undoes",
            sql: """
                CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER t BEFORE UPDATE ON sidecar.lease FOR EACH ROW EXECUTE FUNCTION f()
                """, step: "claim", says: "a claim had no effect", rehearsal: false),
        Spoiled(
            name: "a row filter without a policy", sql: "ALTER TABLE sidecar.lease ENABLE ROW LEVEL SECURITY",
            step: "create", says: "a policy that covers every row", rehearsal: false),
        Spoiled(
            name: "a row filter that shows and does not let write",
            sql: """
                ALTER TABLE sidecar.lease ENABLE ROW LEVEL SECURITY;
                CREATE POLICY s ON sidecar.lease FOR SELECT USING (true);
                CREATE POLICY i ON sidecar.lease FOR INSERT WITH CHECK (true)
                """, step: "claim", says: "a claim had no effect", rehearsal: false),
        Spoiled(
            name: "a row filter that hides",
            sql: """
                ALTER TABLE sidecar.lease ENABLE ROW LEVEL SECURITY;
                CREATE POLICY i ON sidecar.lease FOR INSERT WITH CHECK (true)
                """, step: "create", says: "cannot be read", rehearsal: false),
    ]
}

@Suite("Rehearsals", .serialized) final class RehearsalTests {
    let server: PrivatePostgres

    init() throws {
        server = try PrivatePostgres.started()
        _ = try server.psql("CREATE ROLE keeper LOGIN")
    }
    deinit { server.remove() }

    /// A node of the ordinary role, on tables that are the superuser's.
    private func keeper(_ name: String = "keeper") throws -> Node {
        _ = try Node.open(server, purpose: .migrate)
        _ = try server.psql(
            """
            GRANT USAGE ON SCHEMA sidecar TO keeper;
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sidecar TO keeper
            """)
        return try Node(server, name, user: "keeper")
    }

    private func rehearse(_ node: Node, pause: @escaping () -> Void = {}) throws -> [FullRehearsal.Problem] {
        try FullRehearsal(node.statements, role: node.facts.grantee, pause: pause) { query in
            try node.session.query(query, limit: .seconds(20))
        }.run()
    }

    private func left() throws -> String {
        try server.psql(
            """
            SELECT (SELECT count(*) FROM sidecar.lease), (SELECT count(*) FROM sidecar.member),
                (SELECT count(*) FROM sidecar.history), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
            """)
    }

    @Test("Of a sound database nothing is said, and nothing is left in it") func sound() throws {
        let node = try keeper()
        #expect(try rehearse(node) == [])
        #expect(try node.ask(.auxiliary(.rehearse)) == .done)
        #expect(try left() == "0|0|0|0")
    }

    @Test("Tables that are not there yet are made and rolled back") func withoutTables() throws {
        _ = try server.psql("GRANT CREATE ON DATABASE postgres TO keeper")
        let (session, facts) = try Node.open(server, user: "keeper", purpose: .look)
        var statements = Statements(
            identity: Identity(lease: "test", node: "n", instance: InstanceID("01234567-89ab-cdef-0123-456789abcdef")),
            timing: Node.timing, version: "test")
        statements.backend = facts.backend
        let problems = try FullRehearsal(statements, role: facts.grantee, schema: Schema.upgrade(from: 0)) { query in
            try session.query(query, limit: .seconds(20))
        }.run()
        #expect(problems == [])
        #expect(try server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'sidecar'") == "0")
    }

    @Test("A live leader keeps record and lock, and is not waited for") func beside() throws {
        let (leader, node) = (try keeper("leader"), try keeper())
        let epoch = try leader.lead()
        let admin = try DirectSession(server.socketURL)
        // As a renewal does for a moment.
        try admin.rows("BEGIN")
        try admin.rows("SELECT FROM sidecar.lease WHERE name = 'test' FOR UPDATE")
        var pauses = 0
        #expect(
            try rehearse(node) {
                pauses += 1
                if pauses == 3 { _ = try? admin.rows("ROLLBACK") }
            } == [])
        #expect(pauses == 3)
        #expect(try node.ask(.auxiliary(.rehearse)) == .done)
        #expect(try node.claim(try node.record()) == .lockBusy)
        #expect(try leader.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
    }

    @Test("Who keeps the record's row locked is named", arguments: ["FOR UPDATE", "FOR SHARE"])
    func lockedRow(strength: String) throws {
        let (leader, node) = (try keeper("leader"), try keeper())
        _ = try leader.lead()
        let admin = try DirectSession(server.socketURL, applicationName: "somebody")
        try admin.rows("BEGIN")
        try admin.rows("SELECT FROM sidecar.lease WHERE name = 'test' \(strength)")
        // Somebody who waits for it, too, is not who has it.
        let waiting = try DirectSession(server.socketURL, applicationName: "waiting")
        try waiting.send("UPDATE sidecar.lease SET beat = beat")
        try eventually("it waits") { try server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1" }
        let problems = try rehearse(node)
        #expect(problems.map(\.step) == ["lock"] && problems.allSatisfy { !$0.isAboutRights })
        let reason = try #require(problems.first?.reason)
        for part in ["backend \(admin.backend)", "role \"postgres\"", "application \"somebody\"", "terminate"] {
            #expect(reason.contains(part), "\(reason)")
        }
        #expect(!reason.contains("waiting"), "\(reason)")
        try admin.rows("ROLLBACK")
        try eventually("nobody waits") { try server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" }
        #expect(try rehearse(node) == [])
    }

    @Test("A transaction that is only prepared locks the row, too") func preparedTransaction() throws {
        let server = try PrivatePostgres.started(settings: ["max_prepared_transactions": "2"])
        defer { server.remove() }
        let node = try Node(server)
        _ = try node.lead()
        let lock = "BEGIN; SELECT FROM sidecar.lease FOR UPDATE; PREPARE TRANSACTION 'left'"
        _ = try server.psql(lock)
        let problems = try rehearse(node)
        #expect(problems.map(\.step) == ["lock"] && problems[0].reason.contains("pg_prepared_xacts"), "\(problems)")
    }

    @Test("An epoch that no clock has written is found, and the UPDATE that is printed repairs it") func epoch() throws
    {
        let node = try keeper()
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        let last = Int64(9_000_000_000_000)
        try node.ask(.auxiliary(.historyBegin(Epoch(last), ago: .zero, previousRenewedAgo: .zero)))
        _ = try server.psql("UPDATE sidecar.lease SET epoch = 9000000000000000")
        do {
            _ = try node.claim(try node.record())
            Issue.record("the epoch grows")
        } catch let error as ServerError {
            #expect(error.sqlState == "23514")
            #expect(Advice.text(error, role: nil).contains("`sidecar check` prints the UPDATE"), "\(error)")
        }
        let problems = try rehearse(node)
        #expect(problems.map(\.step) == ["record"])
        let reason = try #require(problems.first?.reason)
        let update = try #require(reason.firstRange(of: "UPDATE"))
        _ = try server.psql(String(reason[update.lowerBound...]))
        #expect(try rehearse(node) == [])
        guard case .claimed(let epoch, _) = try node.claim(try node.record()) else {
            throw UnreadableReply(what: "the claim after the repair")
        }
        #expect(epoch > Epoch(last) && epoch.rawValue < Advice.lastPlausibleEpoch)
    }

    @Test(
        "Two rows for one lease are told as that, by every statement that meets them",
        arguments: [
            """
            ALTER TABLE sidecar.lease DROP CONSTRAINT lease_pkey; INSERT INTO sidecar.lease SELECT * FROM sidecar.lease
            """,
            """
            CREATE TABLE heir () INHERITS (sidecar.lease); INSERT INTO heir SELECT * FROM ONLY sidecar.lease;
            GRANT SELECT, UPDATE ON heir TO keeper
            """,
        ])
    func severalRows(how: String) throws {
        let node = try keeper()
        let epoch = try node.lead()
        let seen = try node.record()
        _ = try server.psql(how)
        let statements = [
            Statement.observe, .renew(epoch, ours: node.backends), .claim(seen: seen, epochAbove: epoch),
        ]
        for statement in statements {
            #expect(throws: UnreadableReply.severalRecords, "\(statement)") { try node.ask(statement) }
            // Only as it was can the next statement meet it.
            _ = try server.psql(
                "UPDATE sidecar.lease AS l SET beat = 0, epoch = \(epoch), holder = '\(node.identity.instance)'")
        }
        do {
            _ = try node.ask(.resume(epoch, ours: node.backends))
            Issue.record("a resume goes by one of them")
        } catch let error as ServerError {
            #expect(Advice.text(error, role: nil).contains("more than one row for this lease"), "\(error)")
        }
        let problems = try rehearse(node)
        #expect(problems.contains { $0.reason.contains("more than one row for this lease") }, "\(problems)")
    }

    @Test("A rehearsal takes neither the lock nor the record of a lease that is free") func takesNothing() throws {
        let node = try keeper()
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        let (writer, understudy) = (node.statements.writer, node.statements.writer.understudy)
        #expect(understudy.lockKey != writer.lockKey)
        #expect(!LeaseKey.isValidName(understudy.lease), "no lease can have that name")
        let before = try server.psql("SELECT l::text FROM sidecar.lease AS l")
        _ = try node.ask(.auxiliary(.rehearse))
        #expect(try rehearse(node) == [])
        #expect(try server.psql("SELECT l::text FROM sidecar.lease AS l") == before)
        #expect(try server.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0")
    }

    @Test("What a database refuses is found, with what to do", arguments: Spoiled.all) func spoiled(_ case: Spoiled)
        throws
    {
        let node = try keeper()
        _ = try server.psql(`case`.sql)
        let problems = try rehearse(node)
        let found = problems.first { $0.step == `case`.step }
        #expect(found?.reason.contains(`case`.says) == true, "\(problems)")
        #expect(try left() == "0|0|0|0")
        if `case`.rehearsal {
            #expect(throws: ServerError.self) { try node.ask(.auxiliary(.rehearse)) }
        } else {
            #expect(try node.ask(.auxiliary(.rehearse)) == .done)
        }
    }

    @Test("A node's name that the database's encoding cannot store is found") func encoding() throws {
        _ = try server.psql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        _ = try server.psql("GRANT CREATE ON DATABASE latin TO keeper")
        for name in ["knoten-ü", "節点"] {
            let node = try Node(server, name, user: "keeper", database: "latin")
            let fits = name.hasPrefix("k")
            let problems = try rehearse(node)
            #expect(problems.isEmpty == fits, "\(problems)")
            #expect(fits || problems.contains { $0.step == "claim" && $0.reason.contains("--node") }, "\(problems)")
            #expect((try? node.ask(.auxiliary(.rehearse))) == (fits ? .done : nil))
        }
    }

    @Test("What is the moment's is told from what lasts") func lasting() {
        let lasting = ["42501", "22P05", "55000", "42703", "23502", "P0001", "25006", "0A000"]
        let passing = ["40001", "40P01", "55P03", "57014", "57P01", "53100", "58030", "XX000", ""]
        for state in lasting { #expect(Advice.isLasting(ServerError(sqlState: state, message: "m")), "\(state)") }
        for state in passing { #expect(!Advice.isLasting(ServerError(sqlState: state, message: "m")), "\(state)") }
    }
}
