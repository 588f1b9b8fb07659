// News that cannot come in the present state ends the tests, and so the simulation. (A release build ignores it.) Each case runs
// in a process of its own.

import Clock
import Orders
import Testing

@testable import Lease

@Suite("News that cannot come") struct SlipTests {
    @Test("A reply to no statement") func reply() async {
        await #expect(processExitsWith: .failure) {
            var driver = try Driver.running()
            driver.settle()
            driver.reply(.done)
        }
    }

    @Test("A start that is not being started cannot be undelivered") func startUndelivered() async {
        await #expect(processExitsWith: .failure) {
            var driver = try Driver.running()
            driver.feed(.startUndelivered(driver.start))
        }
    }

    @Test("Nobody's heritage is at an end") func descendantsGone() async {
        await #expect(processExitsWith: .failure) {
            var driver = try Driver.running()
            driver.feed(.descendantsGone)
        }
    }

    @Test("What a session says that was given up is no slip") func late() async {
        await #expect(processExitsWith: .success) {
            var driver = try Driver.running()
            let old = driver.session
            driver.feed(.sessionLost(old, reason: "gone"))
            driver.feed(.reply(old, .done))
            driver.feed(.statementFailed(old, reason: "late"))
            driver.feed(.sessionOpened(old, backend: Driver.backend(1)))
        }
    }
}
