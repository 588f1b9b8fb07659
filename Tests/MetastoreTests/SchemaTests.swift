// The schema and its migrations, the preparation of a session, the registry and the history, against a real PostgreSQL.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

@Suite("Schema and sessions", .serialized) final class SchemaTests {
    let server: PrivatePostgres

    init() throws { server = try PrivatePostgres.started() }
    deinit { server.remove() }

    @Test("The first session makes the schema; the next finds it") func migrates() throws {
        #expect(try Node.open(server, purpose: .look).1.schemaVersion == 0)
        #expect(try Node.open(server).1.schemaVersion == Schema.current)
        #expect(try Node.open(server, purpose: .look).1.schemaVersion == Schema.current)
        #expect(try server.psql("SELECT count(*) FROM sidecar.schema_version") == "\(Schema.current)")
    }

    @Test("Two that migrate at once: one does it, the other is told to try again") func migratesOnce() throws {
        let blocker = try Node.open(server, purpose: .look).0
        _ = try blocker.query(.script("BEGIN; SELECT pg_advisory_xact_lock(\(Schema.lockKey))"), limit: .seconds(20))
        #expect(throws: PreparationError.migrationUnderWay) { try Node.open(server) }
        _ = try blocker.query(Query("ROLLBACK"), limit: .seconds(20))
        #expect(try Node.open(server).1.schemaVersion == Schema.current)
    }

    @Test("A role without rights is told what to grant, and nothing is left half-made") func missingRights() throws {
        _ = try server.psql("CREATE ROLE nobody LOGIN")
        #expect(throws: PreparationError.notAllowed(user: "nobody", database: "postgres")) {
            try Node.open(server, user: "nobody")
        }
        #expect(try server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'sidecar'") == "0")
        _ = try Node.open(server)
        #expect(throws: PreparationError.tablesNotAllowed(user: "nobody", database: "postgres")) {
            try Node.open(server, user: "nobody")
        }
    }

    @Test("A schema that a stranger has made is not used, whoever finds it; the owner's and one's own are")
    func stranger()
        throws
    {
        _ = try server.psql(
            """
            CREATE ROLE owner LOGIN; CREATE ROLE team; CREATE ROLE app LOGIN IN ROLE team; CREATE ROLE stranger LOGIN;
            GRANT CREATE ON DATABASE postgres TO app, owner
            """)
        func upgrade(as user: String, schemaOf owner: String) throws {
            _ = try server.psql("DROP SCHEMA IF EXISTS sidecar CASCADE")
            _ = try server.psql("CREATE SCHEMA sidecar AUTHORIZATION \(owner)")
            // Rights are not the question here. (CREATE SCHEMA IF NOT EXISTS needs that on the database in any case.)
            if user != "postgres" { _ = try server.psql("GRANT ALL ON SCHEMA sidecar TO \(user)") }
            _ = try Node.open(server, user: user)
        }
        func refused(as user: String, schemaOf owner: String) throws {
            do {
                try upgrade(as: user, schemaOf: owner)
                Issue.record("\(user) uses the schema of \(owner)")
            } catch PreparationError.failed(let reason) {
                #expect(reason.contains("belongs to role \"\(owner)\""), "\(reason)")
                #expect(reason.contains("ALTER SCHEMA sidecar OWNER TO"))
            }
            #expect(try server.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'sidecar'") == "0")
        }
        try refused(as: "app", schemaOf: "stranger")
        // Who is a member of every role.
        try refused(as: "postgres", schemaOf: "stranger")
        for (user, owner) in [("app", "app"), ("app", "team"), ("app", "postgres"), ("postgres", "postgres")] {
            try upgrade(as: user, schemaOf: owner)
        }
        _ = try server.psql("ALTER DATABASE postgres OWNER TO owner")
        defer { _ = try? server.psql("ALTER DATABASE postgres OWNER TO postgres") }
        for user in ["app", "postgres"] { try upgrade(as: user, schemaOf: "owner") }
        try upgrade(as: "owner", schemaOf: "pg_database_owner")
        try refused(as: "app", schemaOf: "stranger")
    }

    @Test("A schema of a newer program that this one cannot work with is refused, a compatible one is not") func newer()
        throws
    {
        _ = try Node.open(server)
        _ = try server.psql("INSERT INTO sidecar.schema_version VALUES (98, 1)")
        #expect(try Node.open(server).1.schemaVersion == 98)
        _ = try server.psql("INSERT INTO sidecar.schema_version VALUES (99, 99)")
        #expect(throws: PreparationError.schemaTooNew(version: 99)) { try Node.open(server) }
    }

    @Test("A backend that is not the one the connection was started with is a pooler's") func pooler() throws {
        let session = try Node.open(server, purpose: .look).0
        let pid = try #require(session.backendPID)
        var strict = Preparation(purpose: .look, protocolPID: pid + 1, allowSessionPooler: false)
        let answer = try session.query(strict.first, limit: .seconds(20))
        guard case .refuse(.pooler) = strict.next(after: answer) else { throw UnreadableReply(what: "not refused") }
        var lenient = Preparation(purpose: .look, protocolPID: pid + 1, allowSessionPooler: true)
        guard case .refuse = lenient.next(after: answer) else { return }
        Issue.record("refused although a session pooler is allowed")
    }

    @Test("A prepared session has every limit the protocol asks for") func sessionSettings() throws {
        let (session, _) = try Node.open(server, purpose: .lead(callLimit: .seconds(2), idleLimit: .seconds(15)))
        func show(_ name: String) throws -> String? {
            try session.query(Query("SELECT current_setting(\(name)) AS value"), limit: .seconds(20)).string(
                0, "value")
        }
        #expect(try show("statement_timeout") == "1500ms")
        #expect(try show("lock_timeout") == "1500ms")
        #expect(try show("idle_in_transaction_session_timeout") == "1500ms")
        #expect(try show("idle_session_timeout") == "15s")
        #expect(try show("synchronous_commit") == "on")
        #expect(try show("tcp_user_timeout") == "15000")
        #expect(try show("search_path") == "pg_catalog")
        #expect(try show("transaction_isolation") == "read committed")
    }

    @Test("The role's own defaults cannot weaken the session") func hostileDefaults() throws {
        _ = try server.psql(
            """
            ALTER ROLE postgres SET synchronous_commit = off; ALTER ROLE postgres SET statement_timeout = 0;
            ALTER ROLE postgres SET default_transaction_isolation = 'serializable';
            """)
        let (session, _) = try Node.open(server)
        let result = try session.query(
            Query(
                "SELECT current_setting('synchronous_commit') AS commit, current_setting('transaction_isolation') AS level"
            ),
            limit: .seconds(20))
        #expect(result.string(0, "commit") == "on")
        #expect(result.string(0, "level") == "read committed")
    }

    @Test(
        "A role's own limits, however short, keep no session from being prepared, and are not the session's",
        arguments: [
            "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout",
        ])
    func shortLimits(setting: String) throws {
        _ = try server.psql("CREATE ROLE hasty LOGIN; GRANT CREATE ON DATABASE postgres TO hasty")
        _ = try server.psql("ALTER ROLE hasty SET \(setting) = 1")
        // The first makes the schema.
        for purpose in [Preparation.Purpose.lead(callLimit: .seconds(20), idleLimit: .seconds(60)), .migrate, .look] {
            let (session, facts) = try Node.open(server, user: "hasty", purpose: purpose)
            #expect(facts.schemaVersion == Schema.current)
            let shown = try session.query(
                Query("SELECT setting::bigint AS value FROM pg_settings WHERE name = \(setting)"), limit: .seconds(20))
            #expect(try #require(shown.int64(0, "value")) > 1000, "\(purpose)")
        }
        let listener = Session(
            settings: try ConnectionSettings(server.url(user: "hasty")), applicationName: "sidecar-listener:test")
        try listener.connectAndWait()
        let listen = Statements.listen(
            callLimit: .seconds(20), idleLimit: .seconds(60), serverVersion: listener.serverVersion ?? 0)
        // The listener itself comes back after an error.
        try eventually("it listens") { (try? listener.query(listen, limit: .seconds(20))) != nil }
    }

    /// What the role runs with its rights, and what its tables refer to for ever.
    @Test("No function, type or operator of somebody else's stands in for one of PostgreSQL's") func shadows() throws {
        _ = try server.psql(
            """
            CREATE ROLE owner LOGIN; ALTER ROLE owner SET search_path = public, pg_catalog;
            GRANT CREATE ON DATABASE postgres TO owner;
            CREATE TABLE public.spy (who text); GRANT ALL ON public.spy TO public;
            CREATE FUNCTION public.seen() RETURNS void LANGUAGE sql AS 'INSERT INTO public.spy VALUES (current_user)';
            CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql AS
                'BEGIN PERFORM public.seen(); RETURN pg_catalog.now(); END';
            CREATE FUNCTION public.isfinite(timestamptz) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
                'BEGIN PERFORM public.seen(); RETURN true; END';
            CREATE FUNCTION public.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS
                'BEGIN PERFORM public.seen(); RETURN pg_catalog.pg_backend_pid(); END';
            CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS
                'BEGIN PERFORM public.seen(); RETURN pg_catalog.current_setting($1); END';
            CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS
                'BEGIN PERFORM public.seen(); RETURN pg_catalog.to_regclass($1); END';
            CREATE FUNCTION public.at_least(bigint, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
                'BEGIN PERFORM public.seen(); RETURN true; END';
            CREATE OPERATOR public.>= (LEFTARG = bigint, RIGHTARG = int, FUNCTION = public.at_least);
            CREATE DOMAIN public.uuid AS pg_catalog.uuid; CREATE DOMAIN public.timestamptz AS pg_catalog.timestamptz;
            CREATE DOMAIN public.text AS pg_catalog.text;
            """)
        func judge(_ way: String) throws {
            #expect(try server.psql("SELECT DISTINCT who FROM public.spy") == "", "\(way): run with another's rights")
            let references = try server.psql(
                """
                SELECT d.classid::regclass, pg_describe_object(d.refclassid, d.refobjid, 0) FROM pg_depend AS d
                WHERE d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass)
                    AND (d.refobjid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
                        OR d.refobjid IN (SELECT oid FROM pg_type WHERE typnamespace = 'public'::regnamespace
                            AND typtype = 'd')
                        OR d.refobjid IN (SELECT oid FROM pg_operator WHERE oprnamespace = 'public'::regnamespace))
                """)
            #expect(references == "", "\(way)")
            #expect(try server.psql("SELECT count(*) FROM sidecar.schema_version") == "1", "\(way)")
        }
        for purpose in [Preparation.Purpose.migrate, .lead(callLimit: .seconds(20), idleLimit: .seconds(60)), .look] {
            let facts = try Node.open(server, user: "owner", purpose: purpose).1
            #expect(facts.schemaVersion == Schema.current)
            try judge("\(purpose)")
        }
        let node = try Node(server, user: "owner")
        let epoch = try node.lead()
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
        try judge("leading")
        _ = try server.psql("DROP SCHEMA sidecar CASCADE")
        _ = try server.psql("SET search_path = public, pg_catalog; SET ROLE owner; \(Schema.byHand)")
        try judge("by hand")
    }

    @Test("The registry lists who lives and forgets who left") func registry() throws {
        let (one, two) = (try Node(server, "one"), try Node(server, "two"))
        try one.ask(.auxiliary(.register(leading: true, healthy: true)))
        try two.ask(.auxiliary(.register(leading: false, healthy: true)))
        try two.ask(.auxiliary(.register(leading: false, healthy: false)))
        let members = try one.ask(ListMembers(lease: "test"))
        #expect(members.map(\.node) == ["one", "two"] && members.map(\.leads) == [true, false])
        #expect(members.map(\.healthy) == [true, false] && members.map(\.ttl) == [.seconds(10), .seconds(10)])
        #expect(members.map(\.instance) == [one.identity.instance, two.identity.instance])
        #expect(members.map(\.backendPID) == [one.facts.backendPID, two.facts.backendPID])
        #expect(members.allSatisfy { $0.version == "test" && $0.age != nil && $0.up != nil })
        try two.ask(.auxiliary(.leave))
        #expect(try one.ask(ListMembers(lease: "test")).map(\.node) == ["one"])
    }

    @Test("The history has every leadership with its end and reason; a crashed one is closed by the next")
    func history() throws {
        let node = try Node(server)
        let stopped = EndReason.released(.exit(.stopped(killed: false)))
        for (epoch, end) in [(1, stopped), (2, nil), (3, nil)] as [(Int64, EndReason?)] {
            try node.ask(.auxiliary(.historyBegin(Epoch(epoch), ago: .zero, previousRenewedAgo: .seconds(7))))
            if let end { try node.ask(.auxiliary(.historyEnd(Epoch(epoch), reason: end, ago: .zero))) }
        }
        let history = try node.ask(ListHistory(lease: "test", limit: 10))
        #expect(history.map(\.epoch) == [Epoch(3), Epoch(2), Epoch(1)])
        #expect(history.map(\.reason) == [nil, "expired: no renewal for its TTL", "released: stopped"])
        #expect(history.map { $0.endedAt == nil } == [true, false, false])
        #expect(history.allSatisfy { $0.startedAt?.hasSuffix("Z") == true })
        #expect(history.map { $0.lasted == nil } == [true, false, false], "how long the open one lasts is not known")
        #expect(history.allSatisfy { $0.instance == node.identity.instance })
        #expect(history.allSatisfy { $0.node == "node" && $0.version == "test" })
        #expect(try node.ask(ListHistory(lease: "test", limit: 1)).map(\.epoch) == [Epoch(3)])
        #expect(
            history.map(\.previous) == ["node", "node", nil] && history.map { $0.gap == nil } == [false, false, true])
        #expect(
            history.allSatisfy { $0.isCurrent == false && $0.silent == nil }, "no record says that one of them leads")
    }

    @Test("What is told late is dated by its age, and only the record says that somebody leads") func lateHistory()
        throws
    {
        let node = try Node(server)
        let epoch = try node.lead()
        try node.ask(.auxiliary(.historyBegin(Epoch(1), ago: .seconds(100), previousRenewedAgo: .zero)))
        try node.ask(.auxiliary(.historyEnd(Epoch(1), reason: .lost(.deadlinePassed), ago: .seconds(60))))
        try node.ask(.auxiliary(.historyBegin(epoch, ago: .seconds(20), previousRenewedAgo: .seconds(90))))
        func read() throws -> [HistoryEntry] { try node.ask(ListHistory(lease: "test", limit: 10)) }
        func about(_ duration: Duration?, _ seconds: Int64) -> Bool {
            duration.map { $0 >= .milliseconds(seconds * 1000 - 1) && $0 < .seconds(seconds + 15) } ?? false
        }
        var history = try read()
        #expect(about(history[1].lasted, 40) && about(history[0].gap, 40) && about(history[0].lasted, 20), "\(history)")
        #expect(history[0].isCurrent == true && history[0].endedAt == nil)
        #expect(try node.ask(ListHistory(lease: "test", limit: 10, since: .seconds(30))).count == 1)
        #expect(try node.ask(ListHistory(lease: "test", limit: 10, since: .seconds(300))).count == 2)
        _ = try server.psql("UPDATE sidecar.lease SET renewed_at = renewed_at - interval '12 s'")
        history = try read()
        #expect(
            history[0].isCurrent == false && about(history[0].silent, 12), "\(history)")
        #expect(history[0].lasted.map { $0 > .zero && $0 < .seconds(9) } == true, "until its last renewal: \(history)")
        // An end before the begin is none, whatever was measured.
        try node.ask(.auxiliary(.historyEnd(epoch, reason: .notReleased, ago: .seconds(1000))))
        #expect(try read()[0].lasted == .zero)
    }

    @Test("A listener hears of a released lease") func notifies() throws {
        let (one, two) = (try Node(server, "one"), try Node(server, "two"))
        let listen = Statements.listen(
            callLimit: .seconds(20), idleLimit: .seconds(60), serverVersion: two.facts.serverVersion)
        _ = try two.session.query(listen, limit: .seconds(20))
        let listens = Query("SELECT count(*) AS n FROM pg_listening_channels()")
        #expect(try one.session.query(listens, limit: .seconds(20)).int64(0, "n") == 0, "the lease's own never does")
        try one.ask(.auxiliary(.notify))
        try eventually("the notification arrives") {
            two.session.wait(limit: .milliseconds(20)).contains(.notification(channel: "sidecar", payload: "test"))
        }
    }

    @Test("The overview shows the record, and whether the lock's holder agrees with it") func overview() throws {
        let node = try Node(server, "here")
        #expect(try node.ask(ShowLease(lease: "test")) == nil)
        let epoch = try node.lead()
        func look() throws -> LeaseDetails { try #require(try node.ask(ShowLease(lease: "test"))) }
        let seen = try look()
        #expect(seen.name == "test" && seen.node == "here" && seen.holder == node.identity.instance)
        #expect(seen.epoch == epoch && seen.beat == 0 && seen.version == "test" && seen.ttl == .seconds(10))
        #expect(seen.released == false && seen.suspended == false && seen.isSameServer == true)
        #expect(seen.backendPID == node.facts.backendPID && seen.lockPID == seen.backendPID)
        #expect(seen.lockApplication == "sidecar-keeper:test" && seen.lockUser == "postgres")
        #expect(seen.age != nil && seen.led != nil && seen.claimedAt?.hasSuffix("Z") == true)
        #expect(seen.lockAgrees == true)
        #expect(try node.ask(ListLeases()) == ["test"])
        // A role that may not see the holder's details must not cry wolf.
        _ = try server.psql(
            "CREATE ROLE onlooker LOGIN; GRANT USAGE ON SCHEMA sidecar TO onlooker; GRANT SELECT ON ALL TABLES IN SCHEMA sidecar TO onlooker"
        )
        let onlooker = try Node.open(server, user: "onlooker", purpose: .look).0
        let question = ShowLease(lease: "test")
        #expect(try question.read(try onlooker.query(question.query, limit: .seconds(20)))?.lockAgrees == true)
        try node.ask(.unlock)
        #expect(try look().lockAgrees == false && look().lockPID == nil)
        let thief = try Node(server, "thief")
        _ = try thief.session.query(
            Query("SELECT pg_advisory_lock(\(LeaseKey.lock("test")))"), limit: .seconds(20))
        #expect(try look().lockAgrees == false)
        #expect(try look().lockPID == thief.session.backendPID)
    }
}
