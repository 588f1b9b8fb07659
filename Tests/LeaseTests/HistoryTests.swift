// What the history is told of a leadership: when it began and ended, by the life of its child, however late it can be told.

import Clock
import Orders
import Testing

@testable import Lease

@Suite struct HistoryTests {
    /// Goes on until the history is told of an end, and returns that.
    private func end(_ driver: inout Driver) throws -> (reason: EndReason, ago: Duration) {
        driver.settle()
        for case .auxiliary(.historyEnd(Epoch(6), let reason, let ago)) in driver.log.statements.reversed() {
            return (reason, ago)
        }
        throw NotTold()
    }
    private struct NotTold: Error {}

    @Test("A leadership that was lost ended with its child, not when the database was there again") func outage() throws
    {
        var driver = try Driver.running()
        driver.feed(.sessionLost(driver.session, reason: "the database is away"))
        #expect(driver.advance(.seconds(8)).kills)
        driver.now = driver.now + .milliseconds(100)
        driver.feed(.guardAnswered(.exited(driver.start, .signal(9))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(driver.isStandby)
        driver.advance(.seconds(9))
        driver.open()
        driver.observe(epoch: 7)
        let end = try end(&driver)
        #expect(end.reason == .lost(.deadlinePassed) && end.ago == .seconds(9))
    }

    @Test("What died before the lease was lost is told by its own age") func childlessLoss() throws {
        var driver = try Driver.running()
        driver.feed(.guardAnswered(.exited(driver.start, .code(1))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.settle()
        driver.feed(.sessionLost(driver.session, reason: "the database is away"))
        let start = driver.now
        while !driver.isStandby {
            driver.advance(.milliseconds(100))
            if driver.log.last.map({ [$0].starts }) == true { break }
        }
        // It was started again, and died at the deadline.
        driver.feed(.guardAnswered(.started(driver.start, pid: 100)))
        while driver.leadership?.standing == .held(.run) { driver.advance(.milliseconds(100)) }
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.advance(.seconds(20) - driver.now.since(start))
        driver.open()
        driver.observe(epoch: 7)
        let end = try end(&driver)
        #expect(end.ago == .seconds(12), "\(end.ago)")
    }

    @Test("A released leadership ended with its child, however long the release took") func released() throws {
        var driver = try Driver.running()
        driver.feed(.stopRequested(.drain))
        driver.feed(.guardAnswered(.exited(driver.start, .code(0))))
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.now = driver.now + .milliseconds(700)
        driver.reply(.released(true))
        let end = try end(&driver)
        #expect(end.reason == .released(.exit(.stopped(killed: false))) && end.ago == .milliseconds(700))
    }

    @Test("What waits to be told grows older") func waiting() {
        var queue = AuxiliaryQueue(registerAt: Instant(nanoseconds: 0))
        let now = Instant(nanoseconds: 1_000_000_000)
        queue.add(.historyBegin(Epoch(6), ago: .zero, previousRenewedAgo: .seconds(1)), at: now)
        queue.add(.historyEnd(Epoch(6), reason: .notReleased, ago: .seconds(2)), at: now)
        queue.add(.notify, at: now)
        let later = now + .seconds(5)
        #expect(queue.next(at: later) == .historyBegin(Epoch(6), ago: .seconds(5), previousRenewedAgo: .seconds(6)))
        #expect(queue.next(at: later) == .historyEnd(Epoch(6), reason: .notReleased, ago: .seconds(7)))
        #expect(queue.next(at: later) == .notify)
        #expect(queue.next(at: later) == nil)
    }
}
