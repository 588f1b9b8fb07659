// R2, R4, R9: who could not hold the lease does not claim it, and does not renew its own record either: each renewal would keep
// the others out.

import Clock
import Testing

@testable import Lease

@Suite("Too late to hold a lease") struct UnfitTests {
    /// Answers the outstanding ping that much later.
    private func answerLate(_ driver: inout Driver, after duration: Duration) {
        driver.guardAnswers = false
        driver.settle()
        driver.advance(driver.machine.settings.timing.renewInterval)
        if case .busy(_, .observe, _) = driver.machine.link { driver.observe() }
        driver.settle()
        driver.now = driver.now + duration
        driver.guardAnswers = true
        driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken)))
    }

    @Test("R4: nothing is claimed while the guard was late by more than the margin, and it is said once") func noClaim()
        throws
    {
        var driver = try Driver()
        driver.open()
        driver.observe()
        answerLate(&driver, after: .seconds(5))
        #expect(!driver.machine.canHold)
        var said = 0
        for _ in 0..<6 {
            driver.settle()
            if case .busy(_, .observe, _) = driver.machine.link { driver.observe(holder: nil, released: true) }
            driver.advance(.seconds(2))
        }
        #expect(!driver.log.claims)
        #expect(driver.machine.nextWake > driver.now, "it must not spin")
        for case .report(.cannotHold, _) in driver.log { said += 1 }
        #expect(said == 1)
        #expect(driver.machine.snapshot(at: driver.now).trouble == .starved)
        // Forgotten after two TTL without another late answer.
        for _ in 0..<12 {
            driver.settle()
            if case .busy(_, .observe, _) = driver.machine.link { driver.observe(holder: nil, released: true) }
            driver.advance(.seconds(2))
        }
        #expect(driver.log.claims)
    }

    @Test("R9: who cools down leaves its own record alone, so that others can take over") func ownRecordWhileCooling()
        throws
    {
        var driver = try Driver.claimInDoubt()
        driver.machine.update { $0.coolsUntil = driver.now + .seconds(20) }
        let actions = driver.observe(epoch: 6, beat: 0, holder: Driver.me)
        #expect(!actions.statements.contains(.resume(Epoch(6))))
        driver.settle()
        #expect(!driver.advance(.seconds(19)).statements.contains(.resume(Epoch(6))))
    }
}
