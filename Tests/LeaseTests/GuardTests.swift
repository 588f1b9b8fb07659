// A guard that fails, and what the keeper then does itself (R12); starts that hang; what is told about processes that are left.

import Clock
import Orders
import Testing

@testable import Lease

@Suite("A guard that fails, a start that hangs") struct GuardTests {
    /// Leading with a running child, at the moment its guard is condemned.
    private static func condemned() throws -> (driver: Driver, actions: [Action]) {
        var driver = try Driver.running()
        driver.guardAnswers = false
        // Lost: the guard must kill now, and is asked whether it does.
        driver.advance(driver.machine.settings.timing.life)
        let actions = driver.advance(driver.machine.settings.timing.patienceWithGuard)
        return (driver, actions)
    }

    @Test("R12: a silent guard is killed, and at once everything below it") func killsBelow() throws {
        let (driver, actions) = try Self.condemned()
        #expect(driver.machine.guardian == .condemned)
        #expect(actions.filter { $0 == .killGuard || $0 == .killBelowGuard } == [.killGuard, .killBelowGuard])
        let status = driver.machine.snapshot(at: driver.now)
        #expect(!status.isGuarded && !status.isHealthy)
    }

    @Test("A guard whose channel is closed is condemned, whether it dies or not") func closedChannel() throws {
        var driver = try Driver.running()
        #expect(driver.feed(.guardFailed).contains(.killBelowGuard))
        #expect(driver.feed(.guardFailed) == [])
        #expect(driver.feed(.guardGone).contains(.killDescendants))
    }

    @Test("R12: a guard that does not die is not waited for") func undead() throws {
        var (driver, _) = try Self.condemned()
        driver.feed(.nothingAliveBelowGuard)
        #expect(driver.log.notices.contains(.guardUndead))
        driver.reply(.done)
        driver.settle()
        driver.advance(.seconds(1))
        driver.settle()
        driver.advance(.seconds(10))
        #expect(driver.log.exits == [.guardLost])
    }

    @Test("Under a lease that is still held, it is released first") func releases() throws {
        var driver = try Driver.running()
        driver.feed(.guardFailed)
        #expect(!driver.log.statements.contains { if case .release = $0 { true } else { false } })
        driver.feed(.nothingAliveBelowGuard)
        #expect(driver.log.statements.last == .release(Epoch(6), beat: 0))
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
        #expect(driver.feed(.guardGone) == [], "it may die later")
    }

    @Test("A guard that dies while the keeper kills below it leaves the rest to the keeper") func diesLate() throws {
        var (driver, _) = try Self.condemned()
        #expect(driver.feed(.guardGone).contains(.killDescendants))
        #expect(driver.feed(.nothingAliveBelowGuard) == [], "that was before")
        #expect(driver.log.exits == [])
        driver.feed(.descendantsGone)
        driver.reply(.done)
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
    }

    @Test("Processes that nobody can kill hold up no end that is asked for, and nothing is released over them")
    func survivors() throws {
        var driver = try Driver.running()
        driver.feed(.guardGone)
        let left = [SeenProcess(pid: 7, state: UInt8(ascii: "D"), name: "sleep")]
        #expect(driver.feed(.survivors(left)).notices.contains(.surviving(left)))
        driver.advance(.seconds(60))
        #expect(driver.log.exits == [])
        driver.feed(.stopRequested(.drain))
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
        #expect(!driver.log.statements.contains { if case .release = $0 { true } else { false } })
    }

    @Test("Asked to stop, it first tries to kill") func noSurvivorsYet() throws {
        var driver = try Driver.running()
        driver.feed(.guardGone)
        driver.feed(.stopRequested(.now))
        driver.settle()
        #expect(driver.log.exits == [])
        driver.feed(.survivors([]))
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
    }

    @Test("An exec that hangs is killed after its limit, and counts as a failed start") func startHangs() throws {
        var driver = try Driver.leading()
        let start = driver.start
        let limit = driver.machine.settings.startLimit
        let began = driver.now
        while driver.now.since(began) < limit - .seconds(2) {
            driver.advance(.seconds(1))
            if case .busy(_, .renew, _) = driver.machine.link { driver.reply(.renewal(.renewed(beat: 1, fenced: 0))) }
            #expect(!driver.log.kills)
        }
        #expect(driver.machine.nextWake <= began + limit)
        driver.settle()
        driver.now = began + limit
        #expect(driver.feed(.tick).kills)
        driver.feed(.guardAnswered(.exited(start, .signal(9))))
        driver.feed(.guardAnswered(.empty(start)))
        #expect(driver.log.notices.contains(.restarting(after: .seconds(1), attempt: 1)))
    }

    @Test("A child that runs is not measured by the limit of a start") func runningIsNoStart() throws {
        var driver = try Driver.running()
        let began = driver.now
        while driver.now.since(began) < .seconds(60) {
            driver.advance(.seconds(1))
            if case .busy(_, .renew, _) = driver.machine.link { driver.reply(.renewal(.renewed(beat: 1, fenced: 0))) }
        }
        #expect(!driver.log.kills)
    }

    @Test("What the guard tells of processes that are left is passed on") func leftovers() throws {
        var driver = try Driver.running()
        let left = [SeenProcess(pid: 7, state: UInt8(ascii: "S"), name: "sleep")]
        driver.feed(.guardAnswered(.surviving(driver.start, left)))
        driver.feed(.guardAnswered(.leftBehind(driver.start, count: 3, left)))
        driver.feed(.guardAnswered(.leftBehind(StartID(99), count: 4, left)))
        let told = driver.log.filter {
            switch $0 {
            case .report(.surviving, _), .report(.leftBehind, _): true
            default: false
            }
        }
        #expect(told.notices == [.surviving(left), .leftBehind(count: 3, left)])
    }
}
