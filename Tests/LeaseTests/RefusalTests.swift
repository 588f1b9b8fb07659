// Health of a standby: what PostgreSQL refuses makes it unfit, lasting trouble at once and the moment's after three times,
// until a claim succeeds or a rehearsal does. None of it decides a claim. And how often a notification is heeded.

import Clock
import Testing

@testable import Lease

@Suite("A standby that is refused") struct RefusalTests {
    /// A standby beside a living leader, its chores answered up to the rehearsal.
    private func beside() throws -> Driver {
        var driver = try Driver()
        driver.open()
        driver.observe()
        return driver
    }

    /// Answers the poll in flight, if one is: the leader has renewed.
    private func renewed(_ driver: inout Driver) {
        if case .busy(_, .observe, _) = driver.machine.link { driver.observe(beat: driver.now.nanoseconds) }
    }

    /// A standby that may claim, and has sent it.
    private func claiming() throws -> Driver {
        var driver = try Driver()
        driver.open()
        try #require(driver.observe(holder: nil, released: true).claims)
        return driver
    }

    /// Refuses what is in flight and answers what follows, up to the next claim.
    private func refuse(_ driver: inout Driver, _ reason: String = "refused", lasting: Bool) throws {
        driver.feed(.statementFailed(driver.session, reason: reason, lasting: lasting))
        try #require(driver.machine.link == .busy(driver.session, .unlock, sentAt: driver.now))
        driver.reply(.done)
        driver.observe(holder: nil, released: true)
    }

    private func claimAgain(_ driver: inout Driver) throws {
        for _ in 0..<20 where !driver.claims {
            driver.advance(.milliseconds(200))
            if case .busy(_, .observe, _) = driver.machine.link { driver.observe(holder: nil, released: true) }
        }
        try #require(driver.claims)
    }

    private func trouble(_ driver: Driver) -> Trouble? { driver.machine.snapshot(at: driver.now).trouble }

    @Test("Each session rehearses once, after it has read the record, and before other chores") func rehearsesOnce()
        throws
    {
        var driver = try beside()
        #expect(driver.machine.link == .busy(driver.session, .auxiliary(.rehearse), sentAt: driver.now))
        driver.reply(.done)
        #expect(driver.log.statements.filter { $0 == .auxiliary(.rehearse) }.count == 1)
        for _ in 0..<50 {
            driver.advance(.milliseconds(500))
            renewed(&driver)
        }
        #expect(driver.log.statements.filter { $0 == .auxiliary(.rehearse) }.count == 1)
        #expect(trouble(driver) == nil)
    }

    @Test("A rehearsal that is refused makes a standby unfit at once, says so once, and registers it") func rehearsal()
        throws
    {
        var driver = try beside()
        let actions = driver.feed(.statementFailed(driver.session, reason: "no right", lasting: true))
        #expect(actions.notices == [.refused(.server("no right"))])
        #expect(actions.statements == [.auxiliary(.register(leading: false, healthy: false))])
        #expect(trouble(driver) == .refused(.server("no right")))
        // It is rehearsed again, every TTL, and not said again.
        var said: [Notice] = []
        for _ in 0..<100 {
            said += driver.advance(.milliseconds(500)).notices
            renewed(&driver)
            if case .busy(_, .auxiliary(.rehearse), _) = driver.machine.link {
                said += driver.feed(.statementFailed(driver.session, reason: "no right", lasting: true)).notices
            }
        }
        #expect(said.isEmpty)
        let times = driver.log.statements.filter { $0 == .auxiliary(.rehearse) }.count
        #expect((4...7).contains(times), "\(times) in 50 s")
        #expect(trouble(driver) == .refused(.server("no right")))
    }

    @Test("It is fit again when a rehearsal succeeds") func mended() throws {
        var driver = try beside()
        driver.feed(.statementFailed(driver.session, reason: "no right", lasting: true))
        var said: [Notice] = []
        for _ in 0..<30 where trouble(driver) != nil {
            driver.advance(.milliseconds(500))
            renewed(&driver)
            if case .busy(_, .auxiliary(.rehearse), _) = driver.machine.link { said += driver.reply(.done).notices }
        }
        #expect(said == [.noLongerRefused])
        #expect(trouble(driver) == nil)
        #expect(
            driver.machine.link
                == .busy(driver.session, .auxiliary(.register(leading: false, healthy: true)), sentAt: driver.now))
    }

    @Test("A claim that is refused for a lasting reason makes it unfit; claims go on, and one that succeeds ends it")
    func claim() throws {
        var driver = try claiming()
        try refuse(&driver, "no right", lasting: true)
        #expect(trouble(driver) == .refused(.server("no right")))
        try claimAgain(&driver)
        #expect(!driver.log.statements.contains(.auxiliary(.rehearse)), "there is nothing to rehearse")
        driver.reply(.claim(.claimed(Epoch(6), fenced: 0)))
        #expect(driver.leadership != nil && driver.machine.refusal == nil)
    }

    @Test("Locks, limits and deadlocks count from the third in a row") func passing() throws {
        var driver = try claiming()
        for time in 1...3 {
            #expect(trouble(driver) == nil)
            try refuse(&driver, "deadlock", lasting: false)
            if time < 3 { try claimAgain(&driver) }
        }
        #expect(trouble(driver) == .refused(.server("deadlock")))
    }

    @Test("A moment's trouble does not hide what lasts, and another lasting reason replaces it") func reasons() throws {
        var driver = try claiming()
        try refuse(&driver, "no right", lasting: true)
        try claimAgain(&driver)
        try refuse(&driver, "deadlock", lasting: false)
        #expect(trouble(driver) == .refused(.server("no right")))
        try claimAgain(&driver)
        try refuse(&driver, "a trigger", lasting: true)
        #expect(trouble(driver) == .refused(.server("a trigger")))
    }

    @Test("A record that cannot be read makes it unfit until it can") func observe() throws {
        var driver = try Driver()
        driver.open()
        driver.feed(.statementFailed(driver.session, reason: "no column", lasting: true))
        #expect(trouble(driver) == .refused(.server("no column")))
        for _ in 0..<20 where trouble(driver) != nil {
            driver.advance(.milliseconds(500))
            renewed(&driver)
        }
        #expect(trouble(driver) == nil)
    }

    @Test("A record that is made and never shown is not made over and over, and makes it unfit") func hidden() throws {
        var driver = try Driver()
        driver.open()
        let missing = Reply.observed(Observation(record: nil, server: Driver.server, age: .zero))
        for _ in 0..<100 {
            switch driver.machine.link {
            case .busy(_, .observe, _): driver.reply(missing)
            case .busy(_, .create, _): driver.reply(.created)
            default: driver.advance(.milliseconds(100))
            }
        }
        #expect(trouble(driver) == .refused(.recordHidden))
        let made = driver.log.statements.filter { if case .create = $0 { true } else { false } }.count
        #expect(made <= 12, "\(made) times within \(driver.now.since(Instant(nanoseconds: 1_000_000_000_000)))")
    }

    @Test("A rehearsal that costs the session is not tried again for long") func costly() throws {
        var driver = try beside()
        driver.feed(.sessionLost(driver.session, reason: "no answer"))
        driver.advance(.seconds(1))
        driver.open()
        for _ in 0..<60 {
            driver.advance(.milliseconds(500))
            renewed(&driver)
        }
        #expect(driver.log.statements.filter { $0 == .auxiliary(.rehearse) }.count == 1)
    }

    @Test("What a claim met on the record is not disproved by a rehearsal, until somebody has written the record")
    func rowLock() throws {
        var driver = try Driver()
        driver.open()
        // A leader that was seen, and has been silent since.
        driver.observe()
        for _ in 0..<3 {
            for _ in 0..<200 where !driver.claims {
                driver.advance(.milliseconds(200))
                if case .busy(_, .observe, _) = driver.machine.link { driver.observe() } else { driver.settle() }
            }
            try #require(driver.claims)
            driver.feed(.statementFailed(driver.session, reason: "lock timeout", lasting: false))
            // To the unlock.
            driver.reply(.done)
            driver.settle()
        }
        #expect(trouble(driver) == .refused(.server("lock timeout")))
        // A new session watches the same silence from its beginning, and rehearses meanwhile.
        driver.feed(.sessionLost(driver.session, reason: "terminated"))
        driver.advance(.seconds(1))
        driver.open()
        driver.observe()
        var rehearsals = 0
        func pass(_ driver: inout Driver, fifths: Int, _ look: (inout Driver) -> Void) {
            for _ in 0..<fifths where !driver.claims {
                driver.advance(.milliseconds(200))
                if case .busy(_, .auxiliary(.rehearse), _) = driver.machine.link { rehearsals += 1 }
                look(&driver)
                driver.settle()
            }
        }
        pass(&driver, fifths: 48) { if case .busy(_, .observe, _) = $0.machine.link { $0.observe() } }
        #expect(rehearsals == 1)
        #expect(trouble(driver) == .refused(.server("lock timeout")))
        driver.feed(.notified)
        pass(&driver, fifths: 200) { renewed(&$0) }
        #expect(rehearsals == 2)
        #expect(trouble(driver) == nil)
    }

    @Test("Without contact it says what the last failure was") func outOfTouch() throws {
        var driver = try Driver()
        #expect(trouble(driver) == .outOfTouch(reason: nil))
        driver.feed(.sessionLost(driver.session, reason: "connection refused"))
        #expect(trouble(driver) == .outOfTouch(reason: "connection refused"))
    }

    @Test("A flood of notifications makes a standby look at once, and then rarely") func notifications() throws {
        var driver = try beside()
        driver.settle()
        let before = driver.log.statements.filter { $0 == .observe }.count
        driver.feed(.notified)
        #expect(
            driver.machine.link == .busy(driver.session, .observe, sentAt: driver.now), "the first is heeded at once")
        for _ in 0..<1000 {
            driver.feed(.notified)
            driver.now = driver.now + .milliseconds(1)
            renewed(&driver)
        }
        let looks = driver.log.statements.filter { $0 == .observe }.count - before
        #expect((4...6).contains(looks), "\(looks) in a second, with one allowed each 250 ms")
    }

    @Test("A notification that comes while the record is being read is not lost") func duringALook() throws {
        var driver = try beside()
        driver.settle()
        driver.feed(.notified)
        driver.feed(.notified)
        driver.observe()
        #expect(driver.machine.nextWake <= driver.now + .milliseconds(250))
        driver.advance(.milliseconds(250))
        #expect(driver.machine.link == .busy(driver.session, .observe, sentAt: driver.now))
    }
}

extension Driver {
    /// A claim is in flight.
    fileprivate var claims: Bool {
        if case .busy(_, .claim, _) = machine.link { true } else { false }
    }
}
