// R3-R10 in SQL, against a real PostgreSQL: what each statement must do, and above all what it must refuse.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

@Suite("The lease in SQL", .serialized) final class StatementTests {
    let server: PrivatePostgres

    init() throws { server = try PrivatePostgres.started() }
    deinit { server.remove() }

    private func lockHolders() throws -> String {
        try server.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    }

    @Test("A new record is live and ownerless, without the lock; a second maker changes nothing") func create() throws {
        let (one, two) = (try Node(server, "one"), try Node(server, "two"))
        try one.ask(.create(ttl: .seconds(30), epochAbove: Epoch(0)))
        let record = try one.record()
        #expect(record.holder == nil && !record.released && record.ttl == .seconds(30))
        try two.ask(.create(ttl: .seconds(99), epochAbove: Epoch(0)))
        #expect(try two.record() == record)
        #expect(try lockHolders() == "0")
    }

    @Test("A record made again starts above every epoch known to its maker or the history") func epochsNeverRepeat()
        throws
    {
        let node = try Node(server)
        let far = Int64(9_000_000_000_000)
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(far)))
        #expect(try node.record().epoch == Epoch(far + 1))
        guard case .claimed(let epoch, _) = try node.claim(try node.record()) else {
            throw UnreadableReply(what: "claim")
        }
        #expect(epoch == Epoch(far + 2))
        try node.ask(.auxiliary(.historyBegin(epoch, ago: .zero, previousRenewedAgo: .zero)))
        _ = try server.psql("DELETE FROM sidecar.lease")
        let other = try Node(server, "other")
        try other.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        #expect(try other.record().epoch > epoch)
    }

    @Test("R4: a claim's epoch is above every epoch that its maker knows") func claimAbove() throws {
        let node = try Node(server)
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        let far = Int64(9_000_000_000_000)
        guard case .claimed(let epoch, _) = try node.claim(try node.record(), above: far) else {
            throw UnreadableReply(what: "a claim")
        }
        #expect(epoch == Epoch(far + 1))
    }

    @Test("R4: of two claims on the same record one wins, and the loser keeps no lock") func oneClaimWins() throws {
        let (one, two) = (try Node(server, "one"), try Node(server, "two"))
        try one.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        let seen = try one.record()
        guard case .claimed(let epoch, _) = try one.claim(seen) else {
            throw UnreadableReply(what: "the first claim failed")
        }
        #expect(epoch > seen.epoch)
        #expect(try two.claim(seen) == .lockBusy)
        // Without the lock in the way, the compare-and-set alone still refuses, and the lock is given back.
        try one.ask(.unlock)
        #expect(try two.claim(seen) == .changed)
        #expect(try lockHolders() == "0")
        #expect(try two.record().holder == one.identity.instance)
    }

    @Test(
        "R4: a claim compares epoch, beat, `released` and `suspended`",
        arguments: [
            "epoch = epoch + 1", "beat = beat + 1", "released = NOT released", "suspended = true",
        ])
    func claimCompares(change: String) throws {
        let node = try Node(server)
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        let seen = try node.record()
        _ = try server.psql("UPDATE sidecar.lease SET \(change)")
        #expect(try node.claim(seen) == .changed)
        #expect(try lockHolders() == "0")
    }

    @Test("R4: a record that hands released is not claimed while its leader's session holds the lock")
    func handsInTheTable()
        throws
    {
        let (leader, standby) = (try Node(server, "leader"), try Node(server, "standby"))
        let epoch = try leader.lead()
        _ = try server.psql("UPDATE sidecar.lease SET released = true, holder = NULL")
        #expect(try standby.claim(try standby.record()) == .lockBusy)
        #expect(try standby.record().epoch == epoch)
        #expect(try leader.renewal(.renew(epoch)) == .notOurs)
        try leader.ask(.unlock)
        guard case .claimed = try standby.claim(try standby.record()) else {
            throw UnreadableReply(what: "the claim after the leader let go")
        }
    }

    @Test("R4: a claim clears the requests of earlier epochs") func claimClearsRequests() throws {
        let node = try Node(server)
        try node.ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        _ = try server.psql("UPDATE sidecar.lease SET request = 'step-down', request_epoch = epoch, requested_by = 'x'")
        _ = try node.claim(try node.record())
        #expect(try server.psql("SELECT request IS NULL AND request_epoch IS NULL FROM sidecar.lease") == "t")
    }

    @Test("R5: a renewal is one more beat, and sets the server and the TTL") func renew() throws {
        let node = try Node(server)
        let epoch = try node.lead()
        _ = try server.psql("UPDATE sidecar.lease SET server = server - interval '1 day', ttl_ms = 600")
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
        let observation = try node.observe()
        #expect(observation.record?.server == observation.server)
        #expect(observation.record?.ttl == .seconds(10))
    }

    @Test(
        "R5: a record that is not ours is not renewed",
        arguments: [
            "DELETE FROM sidecar.lease", "UPDATE sidecar.lease SET epoch = epoch + 1",
            "UPDATE sidecar.lease SET holder = gen_random_uuid()", "UPDATE sidecar.lease SET released = true",
        ])
    func renewRefuses(change: String) throws {
        let node = try Node(server)
        let epoch = try node.lead()
        _ = try server.psql(change)
        #expect(try node.renewal(.renew(epoch)) == .notOurs)
        #expect(try node.renewal(.resume(epoch)) == .notOurs)
    }

    @Test("R6: a resume ends the own former backend, takes the lock and renews") func resume() throws {
        let node = try Node(server)
        let epoch = try node.lead()
        let again = try Node(again: node, server)
        let former = try #require(node.session.backendPID)
        // The former backend may need a moment to go.
        var reply = try again.renewal(.resume(epoch))
        try eventually("the lock is free") {
            if reply == .lockBusy { reply = try again.renewal(.resume(epoch)) }
            return reply != .lockBusy
        }
        #expect(reply == .renewed(beat: 1, fenced: 0))
        // Its lock is free before it is off the list.
        try eventually("the former backend is gone") {
            try server.psql("SELECT count(*) FROM pg_stat_activity WHERE pid = \(former)") == "0"
        }
    }

    @Test("R6: a foreign lock is told apart from a lost record, and its holder is left alone") func foreignLock() throws
    {
        let (node, thief) = (try Node(server, "one"), try Node(server, "thief"))
        let epoch = try node.lead()
        try node.ask(.unlock)
        _ = try thief.session.query(
            Query("SELECT pg_advisory_lock(\(LeaseKey.lock("test")))"), limit: .seconds(20))
        let again = try Node(again: node, server)
        #expect(try again.renewal(.resume(epoch)) == .lockBusy)
        #expect(try again.record().holder == node.identity.instance)
        #expect(thief.session.wait(limit: .milliseconds(1)).isEmpty)
    }

    @Test("R7: a release compares epoch, beat, holder and server, clears the holder and unlocks") func release() throws
    {
        let node = try Node(server)
        let epoch = try node.lead()
        #expect(try node.ask(.release(epoch, beat: 5)) == .released(false))
        #expect(try node.record().released == false)
        _ = try server.psql("UPDATE sidecar.lease SET server = server - interval '1 second'")
        #expect(try node.ask(.release(epoch, beat: 0)) == .released(false))
        #expect(try node.renewal(.renew(epoch)) == .renewed(beat: 1, fenced: 0))
        #expect(try node.ask(.release(epoch, beat: 1)) == .released(true))
        let record = try node.record()
        #expect(record.released && record.holder == nil && record.epoch == epoch)
        #expect(try lockHolders() == "0")
    }

    @Test("R5: a released record is not renewed") func noRenewalAfterRelease() throws {
        let node = try Node(server)
        let epoch = try node.lead()
        try node.ask(.release(epoch, beat: 0))
        #expect(try node.renewal(.renew(epoch)) == .notOurs)
        #expect(try node.renewal(.resume(epoch)) == .notOurs)
    }

    @Test("R4: a termination rechecks epoch and beat, and spares strangers that were active lately") func termination()
        throws
    {
        let (leader, standby) = (try Node(server, "leader"), try Node(server, "standby"))
        _ = try leader.lead()
        var seen = try standby.record()
        seen.beat += 1
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.zero))) == .terminated(0))
        seen.beat -= 1
        let epoch = seen.epoch
        seen.epoch = Epoch(epoch.rawValue + 1)
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.zero))) == .terminated(0))
        seen.epoch = epoch
        // The holder as the record names it goes at once.
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.seconds(3600)))) == .terminated(1))
        try eventually("the lock is free") { try lockHolders() == "0" }
        let thief = try Node(server, "thief")
        _ = try thief.session.query(
            Query("SELECT pg_advisory_lock(\(LeaseKey.lock("test")))"), limit: .seconds(20))
        #expect(try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.seconds(3600)))) == .terminated(0))
        try eventually("an idle stranger goes") {
            try standby.ask(.terminateHolder(seen: seen, strangers: .idleFor(.milliseconds(1)))) == .terminated(1)
        }
    }

    @Test("R3: an observation says which server wrote the record and which answers") func serverOfTheRecord() throws {
        let node = try Node(server)
        _ = try node.lead()
        let before = try node.observe()
        #expect(before.record?.server == before.server)
        try server.restart()
        let after = try Node(again: node, server).observe()
        #expect(after.record == before.record)
        #expect(after.server != before.server)
    }
}
