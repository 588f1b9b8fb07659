// Refused logins: when a sidecar ends because of them, and that a leader with a living child never does.

import Clock
import Testing

@testable import Lease

@Suite("Refused logins") struct RefusedLoginTests {
    private let limit = Duration.seconds(300)

    /// Lets every attempt to connect fail for so long.
    private func fail(_ driver: inout Driver, for time: Duration, cause: SessionLoss = .loginRefused) {
        let end = driver.now + time
        while driver.now < end, driver.log.exits.isEmpty {
            if case .opening = driver.machine.link {
                driver.feed(.sessionLost(driver.session, reason: "refused", cause: cause))
            }
            driver.advance(min(.seconds(1), end.since(driver.now)))
        }
    }

    @Test("A standby ends after nothing else for the limit, and not before") func ends() throws {
        var driver = try Driver(authFailureLimit: limit)
        fail(&driver, for: limit - .seconds(5))
        #expect(driver.log.exits.isEmpty)
        fail(&driver, for: .seconds(10))
        #expect(driver.log.exits == [.loginsRefused])
        #expect(driver.log.contains { if case .report(.loginsRefused, _) = $0 { true } else { false } })
    }

    @Test("A session, or any other failure, starts the count anew", arguments: [true, false]) func reset(opens: Bool)
        throws
    {
        var driver = try Driver(authFailureLimit: limit)
        fail(&driver, for: limit - .seconds(5))
        while true {
            if case .opening = driver.machine.link { break }
            driver.advance(.seconds(1))
        }
        if opens {
            driver.open()
            driver.feed(.sessionLost(driver.session, reason: "broken"))
        } else {
            driver.feed(.sessionLost(driver.session, reason: "connection refused"))
        }
        fail(&driver, for: limit - .seconds(5))
        #expect(driver.log.exits.isEmpty)
        fail(&driver, for: .seconds(10))
        #expect(driver.log.exits == [.loginsRefused])
    }

    @Test("Without a limit it goes on for ever") func noLimit() throws {
        var driver = try Driver()
        fail(&driver, for: limit * 3)
        #expect(driver.log.exits.isEmpty)
    }

    @Test("A leader's child is killed at its deadline first, and the tree known to be empty, however short the limit")
    func leader() throws {
        var driver = try Driver.leading(authFailureLimit: .milliseconds(1))
        driver.feed(.guardAnswered(.started(driver.start, pid: 99)))
        driver.settle()
        driver.feed(.sessionLost(driver.session, reason: "broken"))
        fail(&driver, for: .seconds(7))
        #expect(driver.leadership?.tree == .running(driver.start))
        fail(&driver, for: .seconds(60))
        #expect(driver.log.kills)
        #expect(driver.log.exits.isEmpty, "its tree is not known to be empty")
        driver.feed(.guardAnswered(.empty(driver.start)))
        fail(&driver, for: .seconds(10))
        #expect(driver.log.exits == [.loginsRefused])
    }
}
