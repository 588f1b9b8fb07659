// The child's own failures, durations, and when the machine wants to be woken.

import Clock
import Orders
import Testing

@testable import Lease

@Suite("The child's own failures") struct ChildTests {
    private func fail(_ driver: inout Driver) {
        driver.feed(.guardAnswered(.started(driver.start, pid: 1)))
        driver.settle()
        driver.feed(.guardAnswered(.exited(driver.start, .code(3))))
        driver.feed(.guardAnswered(.empty(driver.start)))
    }

    @Test("It is restarted after 1, 2 and 4 s, under the same epoch") func backOff() throws {
        var driver = try Driver.leading()
        for wait in [1, 2, 4] {
            fail(&driver)
            let before = driver.start
            #expect(!driver.advance(.milliseconds(Int64(wait) * 1000 - 1)).starts)
            keepLease(&driver)
            driver.advance(.milliseconds(1))
            #expect(driver.start.rawValue == before.rawValue + 1)
            #expect(driver.leadership?.epoch == Epoch(6))
        }
    }

    /// Answers a renewal that is due.
    private func keepLease(_ driver: inout Driver) {
        driver.settle()
        if case .busy(_, .renew, _) = driver.machine.link { driver.reply(.renewal(.renewed(beat: 1, fenced: 0))) }
        driver.settle()
    }

    @Test("After too many restarts the lease is released, and not claimed during the cool-down") func coolDown() throws
    {
        var driver = try Driver.leading(maxRestarts: 1)
        fail(&driver)
        driver.advance(.seconds(1))
        fail(&driver)
        #expect(driver.log.statements.last == .release(Epoch(6), beat: 0))
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.isStandby)
        let before = driver.log.count
        driver.observe(epoch: 6, beat: 1, holder: nil, released: true)
        driver.settle()
        driver.advance(.seconds(59))
        #expect(!Array(driver.log[before...]).claims)
        driver.observe(epoch: 6, beat: 1, holder: nil, released: true)
        driver.settle()
        driver.advance(.milliseconds(1_001))
        if case .busy(_, .observe, _) = driver.machine.link {
            driver.observe(epoch: 6, beat: 1, holder: nil, released: true)
        }
        #expect(Array(driver.log[before...]).claims)
    }

    @Test("--once ends with the child's code, after the release") func once() throws {
        var driver = try Driver.running(once: true)
        driver.feed(.guardAnswered(.exited(driver.start, .code(7))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(driver.log.statements.last == .release(Epoch(6), beat: 0))
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.exits == [.childEnded(.code(7))])
    }

    @Test("A command that cannot be executed ends the sidecar, after the release") func cannotExecute() throws {
        var driver = try Driver.leading()
        driver.feed(.guardAnswered(.notStarted(driver.start, .cannotExecute(errno: 2))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.exits == [.cannotExecute(errno: 2)])
    }

    @Test("An exit that comes while the lease is lost is not counted") func lossIsNoFailure() throws {
        var driver = try Driver.running(maxRestarts: 0)
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        driver.feed(.guardAnswered(.exited(driver.start, .signal(9))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.reply(.done)
        #expect(!driver.log.notices.contains(.gaveUp(cooldown: .seconds(60))))
        #expect(driver.isStandby)
    }
}

@Suite("Durations that belong together") struct TimingTests {
    @Test("The defaults are TTL / 5 for renewals and margin") func defaults() throws {
        let timing = try Timing(ttl: .seconds(10))
        #expect(timing.renewInterval == .seconds(2))
        #expect(timing.margin == .seconds(2))
        #expect(timing.life == .seconds(8))
        #expect(timing.callLimit == .seconds(2))
    }

    @Test(
        "Contradictions are refused",
        arguments: [
            (Duration.milliseconds(400), Duration?.none, Duration?.none, TimingError.ttlOutOfRange),
            (.seconds(10), nil, .milliseconds(100), .marginTooSmall),
            (.seconds(10), nil, .seconds(6), .marginTooLarge),
            (.seconds(10), .milliseconds(10), nil, .renewIntervalTooSmall),
            (.seconds(10), .milliseconds(4_001), nil, .renewIntervalTooLarge),
        ])
    func contradictions(ttl: Duration, renew: Duration?, margin: Duration?, error: TimingError) {
        #expect(throws: error) { try Timing(ttl: ttl, renewInterval: renew, margin: margin) }
    }

    @Test("Waking exactly when asked always gets something done: the loop cannot spin") func noSpinning() throws {
        var driver = try Driver.running()
        var idle = 0
        for _ in 0..<200 {
            let before = driver.machine.nextWake
            driver.now = max(driver.now, before)
            driver.feed(.tick)
            driver.settle()
            if case .busy(_, .renew, _) = driver.machine.link { driver.reply(.renewal(.renewed(beat: 1, fenced: 0))) }
            driver.settle()
            idle = driver.machine.nextWake <= driver.now ? idle + 1 : 0
            try #require(idle < 3, "spins in \(driver.machine.role), \(driver.machine.link)")
        }
    }
}
