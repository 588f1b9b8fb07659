// R3, R4, R9, R10: when a standby may claim, and when it must not.

import Clock
import Testing

@testable import Lease

@Suite("Observation and claim") struct ObservationTests {
    @Test("A released record written by this server is claimed at once") func claimsReleased() throws {
        var driver = try Driver()
        driver.open()
        #expect(driver.observe(holder: nil, released: true).claims)
    }

    @Test("R3: `released` is not believed when another postmaster wrote it") func distrustsForeignRelease() throws {
        var driver = try Driver()
        driver.open()
        #expect(!driver.observe(holder: nil, released: true, writer: Driver.otherServer).claims)
        driver.settle()
        #expect(!driver.advance(.milliseconds(9_900)).claims)
        driver.observe(holder: nil, released: true, writer: Driver.otherServer)
        #expect(driver.advance(.milliseconds(200)).claims)
    }

    @Test("R3: a live record is claimed after its own TTL, not after ours, and not earlier") func waitsForRecordsTTL()
        throws
    {
        var driver = try Driver(ttl: .seconds(10))
        driver.open()
        driver.observe(ttl: .seconds(30))
        driver.settle()
        for _ in 0..<29 {
            #expect(!driver.advance(.milliseconds(1_030)).claims)
            if case .busy(_, .observe, _) = driver.machine.link { driver.observe(ttl: .seconds(30)) }
            driver.settle()
        }
        #expect(driver.advance(.milliseconds(1_000)).claims)
    }

    @Test("R3: any new beat starts the wait anew") func newBeatRestartsTheWait() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(beat: 1)
        driver.settle()
        driver.advance(.seconds(9))
        driver.observe(beat: 2)
        driver.settle()
        #expect(!driver.advance(.seconds(9)).claims)
        driver.observe(beat: 2)
        #expect(driver.advance(.seconds(2)).claims)
    }

    @Test("R3: a new session counts from nothing") func newSessionRestartsTheWait() throws {
        var driver = try Driver()
        driver.open()
        driver.observe()
        driver.settle()
        driver.now = driver.now + .seconds(9)
        driver.feed(.sessionLost(driver.session, reason: "gone"))
        driver.advance(.seconds(1))
        #expect(!driver.open().claims)
        #expect(!driver.observe().claims)
        driver.settle()
        driver.advance(.seconds(9))
        #expect(!driver.observe().claims)
        #expect(driver.advance(.milliseconds(1_001)).claims)
    }

    @Test("R3: the wait counts from the arrival of the first reply, not from its request") func countsFromArrival()
        throws
    {
        var driver = try Driver()
        driver.open()
        driver.now = driver.now + .milliseconds(1_500)
        driver.observe()
        driver.settle()
        driver.advance(.milliseconds(8_600))
        driver.observe()
        #expect(!driver.log.claims)
    }

    @Test("R3: a record of another postmaster needs the longest TTL ever seen") func largestTTLAfterFailOver() throws {
        var driver = try Driver(ttl: .seconds(10))
        driver.open()
        driver.observe(epoch: 5, ttl: .seconds(60))
        driver.settle()
        driver.advance(.seconds(3))
        // Fail-over to a replica that lost the claim with the long TTL.
        driver.observe(epoch: 4, ttl: .seconds(10), writer: Driver.server, server: Driver.otherServer)
        driver.settle()
        driver.advance(.seconds(59))
        driver.observe(epoch: 4, ttl: .seconds(10), writer: Driver.server, server: Driver.otherServer)
        #expect(!driver.log.claims)
        #expect(driver.advance(.seconds(2)).claims)
    }

    @Test("R3: a TTL that was shortened by hand does not shorten the wait") func shortenedTTL() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(ttl: .seconds(10))
        driver.advance(.seconds(2))
        driver.observe(ttl: .milliseconds(600))
        driver.advance(.milliseconds(9_900))
        driver.observe(ttl: .milliseconds(600))
        #expect(!driver.log.claims)
        #expect(driver.advance(.milliseconds(200)).claims)
    }

    @Test("A suspended record is never claimed") func respectsSuspension() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true, suspended: true)
        driver.settle()
        driver.advance(.seconds(60))
        driver.observe(holder: nil, released: true, suspended: true)
        driver.advance(.seconds(60))
        #expect(!driver.log.claims)
    }

    @Test("R10: a missing record is made with the largest TTL known, then waited for") func createsMissingRecord()
        throws
    {
        var driver = try Driver()
        driver.open()
        driver.observe(epoch: 7, ttl: .seconds(40))
        driver.settle()
        driver.advance(.seconds(3))
        let actions = driver.reply(.observed(Observation(record: nil, server: Driver.server, age: .zero)))
        #expect(actions.statements == [.create(ttl: .seconds(40), epochAbove: Epoch(7))])
        driver.reply(.created)
        #expect(!driver.observe(epoch: 8, beat: 0, holder: nil, ttl: .seconds(40)).claims)
        driver.settle()
        driver.advance(.seconds(39))
        driver.observe(epoch: 8, beat: 0, holder: nil, ttl: .seconds(40))
        #expect(!driver.log.claims)
        #expect(driver.advance(.seconds(2)).claims)
    }

    @Test("R9: our own record is taken up again when this server took it from us") func takesUpOwnRecord() throws {
        var driver = try Driver.claimInDoubt()
        #expect(driver.observe(epoch: 6, beat: 0, holder: Driver.me).statements == [.resume(Epoch(6))])
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(driver.leadership?.epoch == Epoch(6))
        #expect(driver.log.starts)
    }

    @Test("R9: a claim in doubt does not make ours what it cannot have written", arguments: [(5, 0), (5, 1), (7, 3)])
    func notWhatTheClaimWrote(_ seen: (epoch: Int64, beat: Int64)) throws {
        var driver = try Driver.claimInDoubt()
        let actions = driver.observe(epoch: seen.epoch, beat: seen.beat, holder: Driver.me)
        #expect(!actions.statements.contains(.resume(Epoch(seen.epoch))))
    }

    @Test("R3: what was seen through a former session is no reason to wake") func noWakeForAFormerWatch() throws {
        var driver = try Driver()
        driver.open()
        driver.settle()
        let released = Driver.record(holder: nil, released: true)
        let former = Watch.after(
            nil, seeing: released, from: Driver.server, through: SessionID(0), age: .zero, at: driver.now)
        driver.machine.update {
            $0.watch = former
            $0.intention = .observe(at: driver.now + .seconds(1))
        }
        driver.machine.link = .idle(driver.session)
        driver.machine.auxiliaries.registerAt = driver.now + .seconds(1)
        driver.machine.rehearseAt = nil
        #expect(driver.machine.nextWake > driver.now)
    }

    @Test("R9: a record that merely names us, by hands, is not taken up") func namedByHands() throws {
        var driver = try Driver()
        driver.open()
        #expect(!driver.observe(holder: Driver.me).statements.contains(.resume(Epoch(5))))
    }

    @Test("R9: our own record is observed like anyone's when another postmaster wrote it") func ownRecordOfOtherServer()
        throws
    {
        var driver = try Driver.claimInDoubt()
        let actions = driver.observe(epoch: 6, beat: 0, holder: Driver.me, writer: Driver.otherServer)
        #expect(!actions.statements.contains(.resume(Epoch(6))))
        #expect(!actions.claims)
    }

    @Test("R9: our own record is not taken up after a release was sent in its epoch") func ownRecordAfterRelease()
        throws
    {
        var driver = try Driver.running(maxRestarts: 0)
        driver.feed(.guardAnswered(.exited(driver.start, .code(1))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(driver.log.statements.contains(.release(Epoch(6), beat: 0)))
        driver.feed(.sessionLost(driver.session, reason: "the answer is lost"))
        #expect(driver.isStandby)
        // Its cool-down is over: nothing else keeps it from the record.
        driver.advance(.seconds(61))
        driver.open()
        let actions = driver.observe(epoch: 6, beat: 0, holder: Driver.me)
        #expect(!actions.statements.contains(.resume(Epoch(6))))
    }

    @Test("R4: nothing is claimed while the guard has not answered") func needsAGuard() throws {
        var driver = try Driver()
        driver.guardAnswers = false
        driver.open()
        driver.observe(holder: nil, released: true)
        driver.settle()
        #expect(!driver.log.claims)
        #expect(driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken))).claims)
    }

    @Test("R4: a failed claim gives the lock back and observes again") func failedClaimUnlocks() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        let actions = driver.feed(.statementFailed(driver.session, reason: "deadlock"))
        #expect(actions.statements == [.unlock])
        driver.reply(.done)
        #expect(driver.log.statements.last == .observe)
    }

    @Test("R4: a changed record is looked at again before another claim") func changedRecordIsObserved() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        #expect(driver.reply(.claim(.changed)).statements == [.observe])
    }

    @Test("R4: the holder of the lock is terminated only when the record is expired and still the same")
    func terminatesOnlyAfterExpiry() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        // Released: wait, never terminate.
        #expect(driver.reply(.claim(.lockBusy)).statements == [.observe])
        #expect(!driver.observe(holder: nil, released: true).statements.contains { $0.terminates })
        driver.settle()
        // Expired, and nothing moved: its holder goes.
        driver.advance(.milliseconds(10_001))
        #expect(driver.log.claims)
        driver.reply(.claim(.lockBusy))
        #expect(driver.observe(holder: nil, released: true).statements.contains { $0.terminates })
    }

    @Test("R4: a holder is not terminated before our own TTL, however short the record's") func sparesHolderOfShortTTL()
        throws
    {
        var driver = try Driver(ttl: .seconds(10))
        driver.open()
        driver.observe(ttl: .milliseconds(500))
        driver.advance(.milliseconds(600))
        driver.reply(.claim(.lockBusy))
        #expect(!driver.observe(ttl: .milliseconds(500)).statements.contains { $0.terminates })
        driver.advance(.seconds(10))
        driver.reply(.claim(.lockBusy))
        // A stranger is spared until it was idle for the longest TTL seen, which is our own.
        let seen = Driver.record(ttl: .milliseconds(500))
        #expect(
            driver.observe(ttl: .milliseconds(500)).statements
                == [.terminateHolder(seen: seen, strangers: .idleFor(.seconds(10)))])
    }

    @Test("A chore that costs the session is left alone until a watch is through") func choresPause() throws {
        var driver = try Driver()
        driver.open()
        driver.observe()
        guard case .busy(_, .auxiliary, _) = driver.machine.link else { throw WrongState() }
        driver.feed(.sessionLost(driver.session, reason: "no answer"))
        driver.now = driver.now + .milliseconds(200)
        driver.feed(.tick)
        driver.open()
        let before = driver.log.count
        for _ in 0..<6 {
            driver.observe()
            driver.now = driver.now + .seconds(2)
            driver.feed(.tick)
        }
        #expect(Array(driver.log[before...]).claims)
        #expect(!driver.log[before...].contains { if case .send(_, .auxiliary) = $0 { true } else { false } })
    }

    @Test("R4: a lock that was busy because of another claimer terminates nobody") func lostRaceTerminatesNobody()
        throws
    {
        var driver = try Driver()
        driver.open()
        driver.observe()
        driver.settle()
        driver.advance(.milliseconds(10_001))
        driver.reply(.claim(.lockBusy))
        driver.observe(epoch: 9, beat: 0)
        driver.settle()
        driver.advance(.seconds(1))
        #expect(!driver.log.statements.contains { $0.terminates })
    }
}

struct WrongState: Error {}

extension Statement {
    var terminates: Bool { if case .terminateHolder = self { true } else { false } }
}
