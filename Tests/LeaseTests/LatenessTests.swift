// R2, R5: what a late guard costs. It is subtracted twice from what a renewal grants, cuts short what was granted before, and
// ends a leadership while its tree can still be killed in time.

import Clock
import Orders
import Testing

@testable import Lease

@Suite struct LatenessTests {
    /// The guard's pong, and before it what it says of itself.
    private static func pong(_ driver: inout Driver, _ strain: Strain) -> [Action] {
        driver.feed(.guardAnswered(.strained(strain)))
            + driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken)))
    }

    /// Leading with a running child whose guard owes an answer; the last renewal was sent just now.
    private static func asked(ttl: Duration = .seconds(10)) throws -> Driver {
        var driver = try Driver.running(ttl: ttl)
        driver.guardAnswers = false
        driver.advance(ttl / 5)
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        return driver
    }

    @Test("R2: lateness cuts short what the last renewal granted") func cutsShort() throws {
        var driver = try Self.asked()
        let sent = driver.now
        driver.now = driver.now + .milliseconds(5)
        let actions = Self.pong(&driver, Strain(lateness: .milliseconds(300)))
        #expect(actions.orders == [.extend(driver.start, deadline: sent + .milliseconds(7400), token: 0)])
        #expect(driver.leadership?.deadline == sent + .milliseconds(7400))
    }

    @Test("R2: lateness is subtracted from the next renewal, and forgotten after two TTLs") func isForgotten() throws {
        var driver = try Self.asked()
        _ = Self.pong(&driver, Strain(lateness: .milliseconds(300)))
        driver.guardAnswers = true
        for beat in 2...13 {
            driver.advance(.seconds(2))
            let sent = driver.now
            let actions = driver.reply(.renewal(.renewed(beat: Int64(beat), fenced: 0)))
            driver.settle()
            let life = beat <= 11 ? Duration.milliseconds(7400) : .seconds(8)
            #expect(actions.orders == [.extend(driver.start, deadline: sent + life, token: 0)], "beat \(beat)")
        }
    }

    @Test("R5: the time that an answer takes counts as lateness") func slowAnswer() throws {
        var driver = try Self.asked()
        let sent = driver.now
        driver.now = driver.now + .milliseconds(600)
        let actions = Self.pong(&driver, Strain())
        #expect(actions.orders == [.extend(driver.start, deadline: sent + .milliseconds(6800), token: 0)])
    }

    @Test("R2: what a tree takes to die under its CPU limit is subtracted, too") func killingCounts() throws {
        var driver = try Self.asked()
        let sent = driver.now
        // 100 processes: 50 ms of work, which takes ten times as long with a tenth of a processor.
        let actions = Self.pong(&driver, Strain(tasks: 100, processors: 100))
        #expect(actions.orders == [.extend(driver.start, deadline: sent + .seconds(7), token: 0)])
    }

    @Test("R2: late by more than the margin, the child is killed while it is renewed, then the lease released")
    func givesUp() throws {
        var driver = try Self.asked()
        let actions = Self.pong(&driver, Strain(lateness: .milliseconds(2100)))
        #expect(actions.kills)
        #expect(actions.contains { if case .report(.starved, _) = $0 { true } else { false } })
        #expect(!driver.log.contains { if case .report(.lost, _) = $0 { true } else { false } })
        driver.settle()
        driver.guardAnswers = true
        let empty = driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(empty.statements == [.release(Epoch(6), beat: 1)])
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.isStandby)
        driver.observe(epoch: 6, holder: nil, released: true)
        #expect(!driver.log.suffix(8).contains { if case .send(_, .claim) = $0 { true } else { false } })
    }

    @Test("R2: the patience with a silent guard is no time to be late in", arguments: [(1890, false), (1910, true)])
    func patienceIsTheMargins(lateness: Int, givenUp: Bool) throws {
        var driver = try Self.asked()
        #expect(Self.pong(&driver, Strain(lateness: .milliseconds(lateness))).kills == givenUp)
    }

    @Test("R2: no child is started by a guard that is late by more than the margin") func refusesToStart() throws {
        var driver = try Driver()
        driver.feed(.guardAnswered(.strained(Strain(tasks: 500, processors: 100))))
        driver.open()
        #expect(!driver.observe(holder: nil, released: true).claims)
        #expect(!driver.log.starts)
        #expect(driver.log.contains { if case .report(.cannotHold, _) = $0 { true } else { false } })
    }

    @Test("People are told once") func toldOnce() throws {
        var driver = try Self.asked()
        for _ in 0..<3 {
            _ = Self.pong(&driver, Strain(lateness: .milliseconds(1100)))
            driver.advance(.seconds(2))
            driver.reply(.renewal(.renewed(beat: 2, fenced: 0)))
        }
        let told = driver.log.filter { if case .report(.starving, _) = $0 { true } else { false } }
        #expect(told.count == 1)
    }

    @Test("R12: a guard known to be late is given that much longer before it is killed") func patience() throws {
        var driver = try Self.asked()
        _ = Self.pong(&driver, Strain(lateness: .milliseconds(500)))
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        driver.advance(.milliseconds(550))
        #expect(!driver.log.contains(.killGuard))
        driver.advance(.milliseconds(60))
        #expect(driver.log.contains(.killGuard))
    }

    @Test("Only the worst of each stretch is remembered, and never more than there is room for") func isBounded() throws
    {
        let timing = try Timing(ttl: .seconds(10))
        var lateness = Lateness()
        var now = Instant(nanoseconds: 1_000_000_000)
        for step in 0..<1000 {
            now = now + .milliseconds(10)
            lateness.note(Strain(lateness: .milliseconds(1000 - step)), at: now, timing: timing)
        }
        #expect(lateness.worst(at: now, timing: timing) == .milliseconds(1000))
        #expect(lateness.worst(at: now + .seconds(21), timing: timing) == .zero)
    }
}
