// R3-R6 and R9 in SQL where names are not enough: copies of one sidecar, commits that a reload may not weaken, strangers on
// the lock, epochs that hands wrote.

import Clock
import Glibc
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

@Suite("Whose session, which commit", .serialized) final class SessionIdentityTests {
    let server: PrivatePostgres

    init() throws { server = try PrivatePostgres.started() }
    deinit { server.remove() }

    @Test("R5, R6: of two copies of one leader the first to renew through a new session goes on, and the other loses")
    func copies() throws {
        let leader = try Node(server, "leader")
        let epoch = try leader.lead()
        // Two machines that were one: the same instance, the same memory of one session, a new session each.
        let (one, other) = (try Node(again: leader, server), try Node(again: leader, server))
        var reply = try one.renewal(.resume(epoch))
        try eventually("the lock is free") {
            if reply == .lockBusy { reply = try one.renewal(.resume(epoch)) }
            return reply != .lockBusy
        }
        #expect(reply == .renewed(beat: 1, fenced: 0))
        #expect(try other.renewal(.resume(epoch)) == .notOurs)
        #expect(try other.renewal(.resume(epoch, ours: [], lock: .waived)) == .notOurs)
        #expect(try other.renewal(.renew(epoch)) == .notOurs)
        #expect(try one.renewal(.renew(epoch)) == .renewed(beat: 2, fenced: 0))
        #expect(try one.record().backend == one.facts.backend)
    }

    @Test("R5, R6: a pid alone is not a session of ours: pids come back") func pidAlone() throws {
        let leader = try Node(server, "leader")
        let epoch = try leader.lead()
        _ = try server.psql("UPDATE sidecar.lease SET backend_start = backend_start + interval '1 second'")
        #expect(try leader.renewal(.renew(epoch)) == .notOurs)
        #expect(try Node(again: leader, server).renewal(.resume(epoch)) == .notOurs)
    }

    @Test("R6: a resume does not end another session that has the former one's pid") func resumeSparesThePid() throws {
        let (leader, other) = (try Node(server, "leader"), try Node(server, "other"))
        let epoch = try leader.lead()
        try leader.ask(.unlock)
        let former = BackendID(pid: other.facts.backendPID, startedAt: 1_000_000_000_000)
        _ = try server.psql(
            """
            UPDATE sidecar.lease SET backend_pid = \(former.pid),
                backend_start = timestamptz 'epoch' + interval '1000000 seconds'
            """)
        let again = try Node(again: leader, server)
        #expect(try again.renewal(.resume(epoch, ours: [former])) == .renewed(beat: 1, fenced: 0))
        #expect(try other.session.query(Query("SELECT 1 AS one"), limit: .seconds(20)).int64(0, "one") == 1)
    }

    @Test("R4: the holder that the record names is known by more than its pid") func holderByPidAlone() throws {
        let (leader, standby) = (try Node(server, "leader"), try Node(server, "standby"))
        _ = try leader.lead()
        let seen = try standby.record()
        let demand = Statement.terminateHolder(seen: seen, strangers: .idleFor(.seconds(3600)))
        for column in ["backend_start", "server"] {
            _ = try server.psql("UPDATE sidecar.lease SET \(column) = \(column) + interval '1 second'")
            #expect(try standby.ask(demand) == .terminated(0), "\(column)")
            _ = try server.psql("UPDATE sidecar.lease SET \(column) = \(column) - interval '1 second'")
        }
        #expect(try standby.ask(demand) == .terminated(1))
    }

    @Test("R7: only the session that last renewed can release") func copyReleases() throws {
        let leader = try Node(server, "leader")
        let epoch = try leader.lead()
        let copy = try Node(again: leader, server)
        #expect(try copy.ask(.release(epoch, beat: 0)) == .released(false))
        #expect(try leader.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
    }

    @Test("R5: a renewal that arrives late through an earlier session of our own is ours, too") func lateRenewal()
        throws
    {
        let leader = try Node(server, "leader")
        let epoch = try leader.lead()
        let again = try Node(again: leader, server)
        _ = try server.psql("SELECT pg_terminate_backend(\(leader.facts.backendPID))")
        try eventually("resumed") { try again.renewal(.resume(epoch)) != .lockBusy }
        let third = try Node(again: again, server)
        _ = try server.psql("SELECT pg_terminate_backend(\(again.facts.backendPID))")
        var reply = RenewalReply.lockBusy
        try eventually("resumed again") {
            if reply == .lockBusy { reply = try third.renewal(.resume(epoch)) }
            return reply != .lockBusy
        }
        guard case .renewed = reply else { throw UnreadableReply(what: "the second resume: \(reply)") }
    }

    @Test(
        "R3: a reload that lowers synchronous_commit does not reach a living session, and a claim outlives a backend's crash",
        arguments: ["off", "local", "remote_write"])
    func reloadUnderALease(setting: String) throws {
        let (leader, other) = (try Node(server, "leader"), try Node(server, "other"))
        try leader.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        _ = try server.psql("CHECKPOINT")
        _ = try server.psql("ALTER SYSTEM SET synchronous_commit = \(setting)")
        _ = try server.psql("ALTER SYSTEM SET wal_writer_delay = '10s'")
        _ = try server.psql("SELECT pg_reload_conf()")
        try eventually("new sessions have it") { try server.psql("SHOW synchronous_commit") == setting }
        let before = try leader.observe()
        guard case .claimed(let epoch, _) = try leader.claim(try #require(before.record)) else {
            throw UnreadableReply(what: "the claim")
        }
        let pinned = try leader.session.query(Query("SHOW synchronous_commit"), limit: .seconds(20))
        #expect(pinned.string(0, "synchronous_commit") == "on")
        kill(other.facts.backendPID, SIGKILL)
        var after: Observation?
        try eventually("the server has recovered") {
            after = try? Node(server, "later").observe()
            return after != nil
        }
        #expect(after?.server == before.server, "the postmaster and its start time stay")
        #expect(after?.record?.epoch == epoch, "the claim was acknowledged")
    }

    @Test("R4: an active stranger is spared by a demand for idle ones, and ended by one for any") func activeStranger()
        throws
    {
        let (leader, standby, thief) = (
            try Node(server, "leader"), try Node(server, "standby"), try Node(server, "thief")
        )
        _ = try leader.lead()
        try leader.ask(.unlock)
        _ = try thief.session.query(
            Query("SELECT pg_advisory_lock(\(LeaseKey.lock("test")))"), limit: .seconds(20))
        thief.session.send(
            .script("SET statement_timeout = 0; SELECT pg_sleep(600)"), now: BootClock.now(), limit: .seconds(600))
        try eventually("it works") {
            try server.psql("SELECT state FROM pg_stat_activity WHERE pid = \(thief.facts.backendPID)") == "active"
        }
        let seen = try standby.record()
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.zero))) == .terminated(0))
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .any)) == .terminated(1))
    }

    @Test("R4, R6: with the lock waived a stranger's lock is no obstacle, and the compare-and-set still is one")
    func waivedLock() throws {
        let (leader, standby, thief) = (
            try Node(server, "leader"), try Node(server, "standby"), try Node(server, "thief")
        )
        let epoch = try leader.lead()
        let seen = try standby.record()
        try leader.ask(.unlock)
        _ = try thief.session.query(
            Query("SELECT pg_advisory_lock(\(LeaseKey.lock("test")))"), limit: .seconds(20))
        let again = try Node(again: leader, server)
        #expect(try again.renewal(.resume(epoch)) == .lockBusy)
        #expect(try again.renewal(.resume(epoch, ours: [], lock: .waived)) == .renewed(beat: 1, fenced: 0))
        #expect(try standby.ask(.claim(seen: seen, epochAbove: Epoch(0), lock: .waived)) == .claim(.changed))
        let fresh = try standby.record()
        #expect(try standby.ask(.claim(seen: fresh, epochAbove: Epoch(0))) == .claim(.lockBusy))
        guard
            case .claim(.claimed(let next, _)) = try standby.ask(
                .claim(seen: fresh, epochAbove: Epoch(0), lock: .waived))
        else { throw UnreadableReply(what: "the claim without the lock") }
        #expect(next > epoch)
        #expect(try again.renewal(.renew(epoch)) == .notOurs)
    }

    @Test("R10: an epoch at its limit in the history does not keep a missing record from being made")
    func absurdHistory()
        throws
    {
        let node = try Node(server)
        try node.ask(.auxiliary(.historyBegin(Epoch(9_000_000_000_000_000), ago: .zero, previousRenewedAgo: .zero)))
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        guard case .claimed = try node.claim(try node.record()) else { throw UnreadableReply(what: "the claim") }
    }
}
