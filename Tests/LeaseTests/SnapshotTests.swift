// What the machine says of itself: when it is ready, what its notices are about, and codes that programs may rely on. And what it
// decides about a stop, a database that will not do, and a start that the guard could not be told.

import Clock
import Testing

@testable import Lease

@Suite("What the machine says of itself") struct SnapshotTests {
    @Test("A standby in touch is ready, unless only a leader is to be", arguments: ReadyWhen.allCases)
    func standbyIsReady(_ when: ReadyWhen) throws {
        var driver = try Driver(readyWhen: when)
        driver.open()
        driver.observe()
        driver.settle()
        let snapshot = driver.machine.snapshot(at: driver.now)
        #expect(snapshot.isHealthy && snapshot.role == .standby && snapshot.epoch == nil)
        #expect(snapshot.unready == (when == .leader ? .standsBy : nil))
    }

    @Test("A leader is ready when its command runs; who has lost the lease has no epoch") func leaderIsReady() throws {
        var driver = try Driver.running()
        let leading = driver.machine.snapshot(at: driver.now)
        #expect(leading.isReady && leading.role == .leader(Epoch(6)))
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        let lost = driver.machine.snapshot(at: driver.now)
        #expect(lost.role == .standby && lost.trouble == .commandNotRunning)
    }

    @Test("A notice carries the epoch that it is about, also at the end of it") func noticesCarryTheirEpoch() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        driver.feed(.guardAnswered(.empty(driver.start)))
        let epochs = driver.log.compactMap { action -> Epoch?? in
            guard case .report(let notice, let epoch) = action else { return nil }
            switch notice {
            case .claimed, .starting, .started, .lost, .treeEmpty: return epoch
            default: return nil
            }
        }
        #expect(epochs == [Epoch(6), Epoch(6), Epoch(6), Epoch(6), Epoch(6)])
    }

    @Test("Codes are words with dashes") func codes() {
        let codes =
            Loss.allCases.map(\.code) + KillReason.allCases.map(\.code)
            + [Notice.guardUndead.code, Notice.lockHeldByStranger.code, Trouble.standsBy.code, Exit.guardLost.code]
            + [EndReason.released(.exit(.stopped(killed: true))).code, RefusalReason.recordHidden.code]
        for code in codes {
            #expect(code.utf8.allSatisfy { (97...122).contains($0) || $0 == 45 }, "\(code)")
        }
        #expect(Notice.guardUndead.code == "guard-undead")
        #expect(EndReason.lost(.recordTaken).code == "lost-record-taken")
    }

    @Test("A start that the guard could not be told of is a failed start, with back-off") func undeliveredStart() throws
    {
        var driver = try Driver.leading()
        let start = driver.start
        #expect(!driver.feed(.startUndelivered(start)).starts, "at once, and so for ever")
        #expect(driver.log.notices.contains(.restarting(after: .seconds(1), attempt: 1)))
        #expect(driver.advance(.seconds(1)).starts)
    }

    @Test("A start that could not be told before its deadline passed leaves nothing to be killed")
    func undeliveredStartPastItsDeadline() throws {
        var driver = try Driver.leading()
        driver.now = driver.now + driver.machine.settings.timing.life
        driver.feed(.startUndelivered(driver.start))
        #expect(driver.log.notices.contains(.lost(.deadlinePassed)))
        // Nothing of it is waited for.
        #expect(driver.log.notices.contains(.treeEmpty) || driver.leadership?.tree.start == nil)
        driver.reply(.done)
        #expect(driver.isStandby)
    }

    @Test("A database that will not do ends a sidecar that never had it, and no other") func unusableDatabase() throws {
        var driver = try Driver()
        #expect(driver.feed(.sessionLost(driver.session, reason: "old", cause: .unusable)).exits == [.databaseUnusable])
        #expect(driver.log.notices == [.databaseUnusable(reason: "old")])

        var later = try Driver.running()
        #expect(later.feed(.sessionLost(later.session, reason: "old", cause: .unusable)).exits.isEmpty)
        later.advance(.seconds(1))
        #expect(later.feed(.sessionLost(later.session, reason: "old", cause: .unusable)).exits.isEmpty)
        #expect(later.leadership?.tree == .running(later.start))
    }
}
