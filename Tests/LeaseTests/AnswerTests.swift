// R12: the machine takes every answer that the guard can give, as the guard gives it: nothing stands between the two that would
// leave some out. And R5: one answer for one renewal.

import Clock
import Orders
import Testing

@testable import Lease

@Suite("Answers as the guard gives them") struct AnswerTests {
    /// What the guard says of a command that ends by itself.
    private func childEnds(_ driver: inout Driver, _ exit: ChildExit = .code(1)) -> [Action] {
        let start = driver.start
        return driver.feed(.guardAnswered(.killing(start, .childExited)))
            + driver.feed(.guardAnswered(.exited(start, exit)))
            + driver.feed(.guardAnswered(.empty(start)))
    }

    /// The guard's answer to a start, answered renewals, up to the next start or the end of the leadership.
    private func untilNextStart(_ driver: inout Driver) {
        let start = driver.start
        for _ in 0..<400 where driver.start == start && driver.leadership != nil {
            driver.advance(.milliseconds(100))
            switch driver.machine.link {
            case .busy(_, .renew, _): driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
            case .busy(_, .release, _): driver.reply(.released(true))
            default: break
            }
        }
    }

    @Test(
        "A child that ends by itself is not started again for ever, although the guard speaks of killing first"
    )
    func childExitedIsNoKill() throws {
        var driver = try Driver.running(maxRestarts: 2)
        for _ in 0..<3 {
            #expect(!childEnds(&driver).starts, "started again at once")
            untilNextStart(&driver)
            driver.feed(.guardAnswered(.started(driver.start, pid: 99)))
        }
        #expect(driver.log.notices.contains(.gaveUp(cooldown: .seconds(60))))
        #expect(driver.log.filter { if case .start = $0 { true } else { false } }.count == 3)
        #expect(driver.isStandby)
    }

    @Test("A tree that is gone, and nobody has told how, is a failed start") func untoldEnd() throws {
        var driver = try Driver.running()
        #expect(!driver.feed(.guardAnswered(.empty(driver.start))).starts)
        #expect(driver.log.notices.contains(.restarting(after: .seconds(1), attempt: 1)))
    }

    @Test(
        "After a kill by a guard without a timer there is back-off, after any other the child is started again"
    )
    func causes() throws {
        for cause in KillCause.allCases where cause != .childExited {
            var driver = try Driver.running()
            driver.feed(.guardAnswered(.killing(driver.start, cause)))
            driver.feed(.guardAnswered(.exited(driver.start, .signal(9))))
            let starts = driver.feed(.guardAnswered(.empty(driver.start))).starts
            #expect(starts == (cause != .timerFailed), "\(cause)")
        }
    }

    @Test("R5: a renewal costs one question to the guard: its extension") func oneQuestion() throws {
        var driver = try Driver.running()
        driver.guardAnswers = false
        driver.advance(.seconds(2))
        let sent = driver.now
        let orders = driver.reply(.renewal(.renewed(beat: 1, fenced: 0))).compactMap {
            action -> Order? in
            if case .order(let order) = action { order } else { nil }
        }
        let token = driver.machine.lastToken
        #expect(orders == [.extend(driver.start, deadline: sent + .seconds(8), token: token)])
        #expect(!driver.machine.guardian.hasAnswered)
        driver.feed(.guardAnswered(.extended(driver.start, deadline: sent + .seconds(8), token: token)))
        #expect(driver.machine.guardian == .answered(at: driver.now))
        driver.settle()
        #expect(driver.advance(.seconds(2)).statements == [.renew(Epoch(6))])
    }

    @Test("R5: the answer to an older extension counts for nothing") func staleExtension() throws {
        var driver = try Driver.running()
        driver.guardAnswers = false
        driver.advance(.seconds(2))
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        let old = driver.machine.lastToken - 1
        driver.feed(.guardAnswered(.extended(driver.start, deadline: driver.now, token: old)))
        #expect(!driver.machine.guardian.hasAnswered)
        driver.settle()
        #expect(driver.advance(.seconds(2)).statements == [])
    }

    @Test("R12: after a loss only the answer to the question that followed it counts")
    func extensionBeforeLoss() throws {
        var driver = try Driver.running()
        driver.guardAnswers = false
        driver.advance(.seconds(2))
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        let token = driver.machine.lastToken
        driver.advance(.seconds(8))
        driver.feed(.guardAnswered(.extended(driver.start, deadline: driver.now, token: token)))
        #expect(driver.advance(.milliseconds(100)).contains(.killGuard))
    }

    @Test("An extension that finds nothing to extend is answered by a pong") func pongForAnExtension()
        throws
    {
        var driver = try Driver.running()
        driver.guardAnswers = false
        driver.advance(.seconds(2))
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken)))
        #expect(driver.machine.guardian.hasAnswered)
    }
}
