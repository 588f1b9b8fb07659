// R3, R4, R5, R9 where a sidecar must not believe what a record says, or must not remember it for ever: old copies of the
// record, TTLs of visitors, epochs written by hand, copies of this very process, strangers on the lock.

import Clock
import Testing

@testable import Lease

@Suite("What was seen, and by whom") struct SeenTests {
    @Test("R3: `released` at an epoch below one that was seen is not believed: the server has lost a claim")
    func releasedBelowSeen() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(epoch: 7, ttl: .seconds(30))
        driver.settle()
        // One backend crashed: the same server, a new session, and an older record than before.
        driver.feed(.sessionLost(driver.session, reason: "the server recovers"))
        driver.advance(.seconds(1))
        driver.open()
        #expect(!driver.observe(epoch: 6, holder: nil, released: true).claims)
        driver.settle()
        let again = { (driver: inout Driver, seconds: Int) in
            for _ in 0..<seconds {
                driver.advance(.seconds(1))
                if case .busy(_, .observe, _) = driver.machine.link {
                    driver.observe(epoch: 6, holder: nil, released: true)
                }
                driver.settle()
            }
        }
        again(&driver, 29)
        #expect(!driver.log.claims)
        again(&driver, 3)
        #expect(driver.log.claims)
    }

    @Test("R3: a TTL is forgotten once it has not been seen for that long: a visitor slows nobody down for ever")
    func visitorIsForgotten() throws {
        var driver = try Driver(ttl: .seconds(2))
        driver.open()
        driver.observe(epoch: 5, ttl: .seconds(30))
        driver.settle()
        #expect(driver.machine.largestTTL == .seconds(30))
        for beat in 0..<31 {
            driver.advance(.seconds(1))
            if case .busy(_, .observe, _) = driver.machine.link {
                driver.observe(epoch: 6, beat: Int64(beat), ttl: .seconds(2))
            }
            driver.settle()
        }
        #expect(driver.machine.largestTTL == .seconds(2))
    }

    @Test("R3: a TTL is not forgotten while nobody was in touch who could have seen it")
    func notForgottenOutOfTouch() throws {
        var driver = try Driver(ttl: .seconds(2))
        driver.open()
        driver.observe(epoch: 5, ttl: .seconds(30))
        driver.feed(.sessionLost(driver.session, reason: "cut off"))
        driver.now = driver.now + .seconds(25)
        driver.feed(.tick)
        driver.open()
        driver.observe(epoch: 4, ttl: .seconds(2), server: Driver.otherServer)
        driver.settle()
        #expect(driver.machine.largestTTL == .seconds(30))
        driver.advance(.seconds(10))
        driver.observe(epoch: 4, ttl: .seconds(2), server: Driver.otherServer)
        #expect(!driver.log.claims)
    }

    @Test("R4: an epoch that no clock writes is not remembered: once the row is repaired, claims go on")
    func absurdEpoch() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(epoch: 9_000_000_000_000_000)
        driver.settle()
        driver.advance(.seconds(2))
        driver.observe(epoch: 8, beat: 2)
        #expect(driver.machine.highestEpoch == Epoch(8))
    }

    @Test("R5, R6: every session this process has had counts as its own, and only those") func namesItsSessions() throws
    {
        var driver = try Driver.running()
        let renewal = driver.advance(.seconds(2))
        #expect(renewal.namedSessions == [Driver.backend(1)])
        driver.feed(.sessionLost(driver.session, reason: "gone"))
        driver.now = driver.now + .milliseconds(100)
        driver.feed(.tick)
        let resumption = driver.open()
        #expect(resumption.namedSessions == [Driver.backend(1), Driver.backend(2)])
    }

    @Test(
        "R9: a record that a session of somebody else wrote is not taken up, whatever it says of the holder: a copy of us did",
        arguments: [Driver.otherBackend, nil])
    func recordOfACopy(_ backend: BackendID?) throws {
        var driver = try Driver.claimInDoubt()
        let actions = driver.observe(epoch: 6, beat: 0, holder: Driver.me, backend: backend)
        #expect(!actions.statements.contains(.resume(Epoch(6))))
        #expect(!actions.claims)
    }

    @Test("R9, R4: a stranger's lock on our own record is dealt with as on anybody's") func strangerOnOwnRecord() throws
    {
        var driver = try Driver.claimInDoubt()
        driver.observe(epoch: 6, beat: 0, holder: Driver.me)
        driver.reply(.renewal(.lockBusy))
        var terminated = false
        for _ in 0..<400 where !terminated {
            driver.settle()
            driver.now = driver.now + .milliseconds(100)
            driver.feed(.tick)
            switch driver.machine.link {
            case .busy(_, .observe, _): driver.observe(epoch: 6, beat: 0, holder: Driver.me)
            case .busy(_, .resume, _): driver.reply(.renewal(.lockBusy))
            case .busy(_, .claim, _): driver.reply(.claim(.lockBusy))
            case .busy(_, .terminateHolder, _): terminated = true
            default: break
            }
        }
        #expect(terminated, "\(driver.log.statements)")
    }

    @Test("R4: a stranger who cannot be ended is spared while idle for less than a TTL, then ended, then claimed past")
    func strangerOutOfReach() throws {
        var driver = try Driver()
        driver.open()
        driver.observe()
        let began = driver.now
        var demands: [(Duration, StrangerDemand)] = []
        while driver.now.since(began) < .seconds(60) {
            driver.settle()
            driver.now = driver.now + .milliseconds(100)
            driver.feed(.tick)
            switch driver.machine.link {
            case .busy(_, .observe, _): driver.observe()
            case .busy(_, .claim(_, _, .needed), _): driver.reply(.claim(.lockBusy))
            case .busy(_, .terminateHolder(_, let strangers), _):
                demands.append((driver.now.since(began), strangers))
                driver.reply(.terminated(0))
            default: break
            }
            if driver.log.statements.contains(where: { if case .claim(_, _, .waived) = $0 { true } else { false } }) {
                break
            }
        }
        let waited = driver.now.since(began)
        #expect(waited >= .seconds(40) && waited < .seconds(45), "claimed past it after \(waited)")
        #expect(demands.first?.1 == .idleFor(.seconds(10)) && demands.last?.1 == .any)
        let firstAny = demands.first { $0.1 == .any }?.0 ?? .zero
        #expect(firstAny >= .seconds(30) && firstAny < .seconds(35))
        #expect(driver.log.notices.contains(.lockWaived))
    }

    @Test("R6: a leader whose lock a stranger took waits for it for half a life, then renews without")
    func resumesPastStranger()
        throws
    {
        var driver = try Driver.running()
        driver.feed(.sessionLost(driver.session, reason: "gone"))
        driver.now = driver.now + .milliseconds(100)
        driver.feed(.tick)
        driver.open()
        var locks: [LockDemand] = []
        for _ in 0..<78 {
            if case .busy(_, .resume(_, _, let lock), _) = driver.machine.link {
                locks.append(lock)
                driver.reply(.renewal(.lockBusy))
            }
            driver.settle()
            driver.now = driver.now + .milliseconds(100)
            driver.feed(.tick)
        }
        #expect(locks.first == .needed && locks.last == .waived)
        #expect((38...42).contains(locks.filter { $0 == .needed }.count), "\(locks.count)")
    }
}
