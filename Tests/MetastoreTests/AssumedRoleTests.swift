// Logins that `ALTER ROLE ... SET role` turns into their owner, as Vault's dynamic credentials are: what a session of such a
// login can do with other sessions of the same login, which PostgreSQL asks the login role about, not the owner.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

@Suite("A login that becomes another role", .serialized) final class AssumedRoleTests {
    let server: PrivatePostgres

    init() throws {
        server = try PrivatePostgres.started()
        _ = try server.psql(
            """
            CREATE ROLE owner NOLOGIN;
            GRANT CREATE ON DATABASE postgres TO owner;
            CREATE ROLE login LOGIN IN ROLE owner; ALTER ROLE login SET role = owner;
            CREATE ROLE narrow LOGIN NOINHERIT IN ROLE owner; ALTER ROLE narrow SET role = owner;
            CREATE ROLE super LOGIN SUPERUSER IN ROLE owner; ALTER ROLE super SET role = owner;
            """)
    }
    deinit { server.remove() }

    private func start(of pid: Int32) throws -> Int64? {
        Int64(
            try server.psql(
                "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity WHERE pid = \(pid)")
        )
    }

    private func isGone(_ pid: Int32) throws -> Bool {
        try server.psql("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
    }

    @Test(
        "Its session knows its own start, and the schema belongs to the owner", arguments: ["login", "narrow", "super"])
    func knowsItself(login: String) throws {
        let node = try Node(server, user: login)
        #expect(try node.facts.backendStart == start(of: node.facts.backendPID))
        #expect(node.facts.login == login && node.facts.assumed == "owner" && node.facts.grantee == "owner")
        let owner = try server.psql(
            "SELECT relowner::regrole FROM pg_class WHERE oid = 'sidecar.lease'::regclass")
        #expect(owner == "owner")
        #expect(try node.renewal(.renew(try node.lead())) == .renewed(beat: 1, fenced: 0))
    }

    @Test("It works as the login where that has the rights; a superuser and who does not inherit stay the owner")
    func steppedBack() throws {
        #expect(try Node(server, user: "login").facts.user == "login")
        for login in ["narrow", "super"] {
            let node = try Node(server, user: login)
            #expect(node.facts.user == "owner")
            let role = try node.session.query(Query("SELECT current_user::text AS role"), limit: .seconds(20))
            #expect(role.string(0, "role") == "owner")
        }
    }

    @Test("A renewal ends the sessions of an earlier child of the same login") func fence() throws {
        let node = try Node(server, user: "login")
        let epoch = try node.lead()
        let child = Session(
            settings: try ConnectionSettings(server.url(user: "login")),
            applicationName: LeaseKey.label(identity: node.identity, epoch: Epoch(1), database: "postgres"))
        try child.connectAndWait()
        let pid = try #require(child.backendPID)
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 1))
        try eventually("the child's session is gone") { try isGone(pid) }
    }

    @Test("A standby ends the session of a frozen leader of the same login") func frozenLeader() throws {
        let (leader, standby) = (try Node(server, user: "login"), try Node(server, "standby", user: "login"))
        _ = try leader.lead()
        let seen = try standby.record()
        #expect(try standby.claim(seen) == .lockBusy)
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.seconds(60)))) == .terminated(1))
        try eventually("the leader's session is gone") { try isGone(leader.facts.backendPID) }
        guard case .claimed = try standby.claim(seen) else { throw UnreadableReply(what: "no claim") }
    }

    @Test("Who does not inherit renews all the same, and says whom it cannot end") func narrow() throws {
        let node = try Node(server, user: "narrow")
        let epoch = try node.lead()
        let child = Session(
            settings: try ConnectionSettings(server.url(user: "narrow")),
            applicationName: LeaseKey.label(identity: node.identity, epoch: Epoch(1), database: "postgres"))
        try child.connectAndWait()
        let renewal = node.statements.query(.renew(epoch, ours: node.backends))
        let result = try node.session.query(renewal, limit: .seconds(20))
        #expect(try node.statements.reply(to: .renew(epoch), result) == .renewal(.renewed(beat: 1, fenced: 0)))
        #expect(
            Statements.unfenced(result) == Unfenced(sessions: 1, by: "owner", roles: #""narrow""#, superusers: ""))
        _ = try server.psql("GRANT pg_signal_backend TO owner")
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 2, fenced: 1))
    }
}
