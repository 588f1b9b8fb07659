// R8 in SQL: which sessions a claim and a renewal end, and which they must spare.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

@Suite("The fence", .serialized) final class FenceTests {
    let server: PrivatePostgres

    init() throws { server = try PrivatePostgres.started() }
    deinit { server.remove() }

    private func session(_ label: String, user: String = "postgres", database: String = "postgres") throws -> Session {
        let session = Session(
            settings: try ConnectionSettings(server.url(user: user, database: database)), applicationName: label)
        try session.connectAndWait()
        return session
    }

    /// Whether the server has ended the session.
    private func isGone(_ session: Session) throws -> Bool {
        let pid = try #require(session.backendPID)
        return try server.psql("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
    }

    @Test("A claim ends the sessions of earlier epochs and other instances; a renewal ends late ones; its own stay")
    func fences() throws {
        let (old, new) = (try Node(server, "old"), try Node(server, "new"))
        let oldEpoch = try old.lead()
        let oldChild = try session(LeaseKey.label(identity: old.identity, epoch: oldEpoch, database: "postgres"))
        #expect(try old.renewal(.renew(oldEpoch)) == .renewed(beat: 1, fenced: 0))
        try old.ask(.unlock)
        guard case .claimed(let epoch, let fenced) = try new.claim(try new.record()) else {
            throw UnreadableReply(what: "the claim failed")
        }
        #expect(fenced == 1)
        try eventually("the old child's session is gone") { try isGone(oldChild) }
        let late = try session(LeaseKey.label(identity: old.identity, epoch: oldEpoch, database: "postgres"))
        let own = try session(LeaseKey.label(identity: new.identity, epoch: epoch, database: "postgres"))
        #expect(try new.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 1))
        try eventually("the late session is gone") { try isGone(late) }
        #expect(try !isGone(own))
    }

    @Test("A session of this epoch but another instance is ended") func otherInstance() throws {
        let node = try Node(server)
        let epoch = try node.lead()
        let other = Identity(
            lease: node.identity.lease, node: "other", instance: InstanceID("01234567-89ab-cdef-0123-456789abcdef"))
        let child = try session(LeaseKey.label(identity: other, epoch: epoch, database: "postgres"))
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 1))
        try eventually("the session is gone") { try isGone(child) }
    }

    @Test("A late fence of an earlier leader ends nothing: it no longer holds the record") func lateFence() throws {
        let (old, new) = (try Node(server, "old"), try Node(server, "new"))
        let oldEpoch = try old.lead()
        try old.ask(.unlock)
        guard case .claimed(let epoch, _) = try new.claim(try new.record()) else {
            throw UnreadableReply(what: "no claim")
        }
        let child = try session(LeaseKey.label(identity: new.identity, epoch: epoch, database: "postgres"))
        #expect(try old.renewal(.renew(oldEpoch)) == .notOurs)
        #expect(try old.renewal(.resume(oldEpoch)) == .notOurs)
        #expect(try !isGone(child))
    }

    @Test("Other leases, the same lease's name in another database, and unlabelled sessions are spared") func spares()
        throws
    {
        _ = try server.psql("CREATE DATABASE other")
        let node = try Node(server)
        let epoch = try node.lead()
        let stranger = Identity(lease: "another", node: "n", instance: node.identity.instance)
        let spared = [
            try session(LeaseKey.label(identity: stranger, epoch: Epoch(1), database: "postgres")),
            try session(LeaseKey.label(identity: node.identity, epoch: Epoch(1), database: "other")),
            try session("psql"), try session("sidecar-keeper:test:elsewhere"), try session("sidecar:nonsense"),
        ]
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
        for session in spared { #expect(try !isGone(session)) }
    }

    @Test("The child's label reaches across databases of the server") func acrossDatabases() throws {
        _ = try server.psql("CREATE DATABASE other")
        let node = try Node(server)
        let epoch = try node.lead()
        let child = try session(
            LeaseKey.label(identity: node.identity, epoch: Epoch(1), database: "postgres"), database: "other")
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 1))
        try eventually("the session is gone") { try isGone(child) }
    }

    @Test("A role that may not end the child's sessions still renews, and counts what it could not do")
    func missingRight()
        throws
    {
        _ = try server.psql(
            """
            CREATE ROLE keeper LOGIN; CREATE ROLE child LOGIN;
            GRANT CREATE ON DATABASE postgres TO keeper;
            """)
        let node = try Node(server, user: "keeper")
        let epoch = try node.lead()
        let label = LeaseKey.label(identity: node.identity, epoch: Epoch(1), database: "postgres")
        let child = try session(label, user: "child")
        let superuser = try session(label)
        let renewal = node.statements.query(.renew(epoch, ours: node.backends))
        let result = try node.session.query(renewal, limit: .seconds(20))
        #expect(try node.statements.reply(to: .renew(epoch), result) == .renewal(.renewed(beat: 1, fenced: 0)))
        #expect(
            Statements.unfenced(result)
                == Unfenced(sessions: 2, by: "keeper", roles: #""child""#, superusers: #""postgres""#))
        #expect(try !isGone(child) && !isGone(superuser))
        _ = try server.psql("GRANT pg_signal_backend TO keeper")
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 2, fenced: 1))
        try eventually("the child's session is gone") { try isGone(child) }
        #expect(try !isGone(superuser))
    }

    @Test("A label fits into 63 bytes and keeps what is compared, whatever the lease's name") func label() {
        let identity = Identity(
            lease: String(repeating: "long", count: 15), node: "n",
            instance: InstanceID("01234567-89ab-cdef-0123-456789abcdef"))
        let label = LeaseKey.label(identity: identity, epoch: Epoch(1_795_529_723_526), database: "airflow")
        #expect(label.utf8.count == 63)
        #expect(label.hasPrefix("sidecar:1795529723526:01234567:"))
    }
}
