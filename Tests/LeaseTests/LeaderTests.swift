// R1, R2, R5-R7, R11, R12: what a leader does with its deadline, its session, its guard and its tree.

import Clock
import Orders
import Testing

@testable import Lease

@Suite("Leading") struct LeaderTests {
    @Test("R2: the deadline counts from before the claim was sent, not from its answer") func deadlineFromSending()
        throws
    {
        var driver = try Driver()
        driver.open()
        let sent = driver.now
        driver.observe(holder: nil, released: true)
        driver.now = driver.now + .seconds(3)
        driver.reply(.claim(.claimed(Epoch(6), fenced: 0)))
        #expect(driver.leadership?.deadline == sent + .seconds(8))
        driver.settle()
        #expect(
            driver.log.contains(.start(StartID(1), deadline: sent + .seconds(8), epoch: Epoch(6))))
    }

    @Test("R2: a claim whose answer comes after its deadline starts nothing") func lateClaimStartsNothing() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        driver.now = driver.now + .seconds(8)
        driver.reply(.claim(.claimed(Epoch(6), fenced: 0)))
        #expect(!driver.log.starts)
    }

    @Test("R5: a renewal extends the child's deadline by what its own sending allows") func renewalExtends() throws {
        var driver = try Driver.running()
        let sent = driver.now + .seconds(2)
        #expect(driver.advance(.seconds(2)).statements == [.renew(Epoch(6))])
        driver.now = driver.now + .seconds(1)
        let actions = driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(actions.orders == [.extend(driver.start, deadline: sent + .seconds(8), token: 0)])
    }

    @Test("R1: past the deadline the child is killed, and a renewal that succeeds too late changes nothing")
    func lateRenewalIsRefused() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        #expect(driver.advance(.seconds(6)).kills)
        let actions = driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(actions.orders.isEmpty)
    }

    @Test("R1: past the deadline the child is killed, also if the first news of it is a renewal's success")
    func lateNewsIsRefused() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.now = driver.now + .seconds(7)
        let actions = driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(actions.kills && !actions.orders.contains { if case .extend = $0 { true } else { false } })
    }

    @Test("R5: a record that is not ours any more kills at once; the lock is kept until the tree is empty")
    func lostRecordKills() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        #expect(driver.reply(.renewal(.notOurs)).kills)
        #expect(!driver.advance(.milliseconds(50)).statements.contains(.unlock))
        driver.feed(.guardAnswered(.killing(driver.start, .ordered)))
        #expect(!driver.log.statements.contains(.unlock))
        #expect(driver.feed(.guardAnswered(.empty(driver.start))).statements == [.unlock])
        driver.reply(.done)
        #expect(driver.isStandby)
    }

    @Test("R5: no renewal on behalf of a guard that does not answer") func silentGuardIsNotRenewedFor() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.guardAnswers = false
        driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(!driver.advance(.seconds(2)).statements.contains(.renew(Epoch(6))))
        let late = driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken)))
        #expect(!late.statements.contains(.renew(Epoch(6))), "renewed for a guard that answered two seconds late")
        #expect(
            driver.feed(.guardAnswered(.pong(token: driver.machine.lastToken))).statements.contains(.renew(Epoch(6))))
    }

    @Test("R6: a broken session is resumed through a new one while the deadline lies ahead") func resumes() throws {
        var driver = try Driver.running()
        driver.feed(.sessionLost(driver.session, reason: "broken"))
        #expect(driver.leadership != nil)
        driver.advance(.milliseconds(100))
        #expect(driver.open().statements == [.resume(Epoch(6))])
        let actions = driver.reply(.renewal(.renewed(beat: 1, fenced: 0)))
        #expect(actions.orders == [.extend(driver.start, deadline: driver.now + .seconds(8), token: 0)])
        driver.settle()
        #expect(driver.advance(.seconds(2)).statements == [.renew(Epoch(6))])
    }

    @Test("R6: somebody else's lock is not a loss while the record says us, until the deadline") func foreignLock()
        throws
    {
        var driver = try Driver.running()
        driver.feed(.sessionLost(driver.session, reason: "broken"))
        driver.advance(.milliseconds(100))
        driver.open()
        #expect(!driver.reply(.renewal(.lockBusy)).kills)
        driver.settle()
        #expect(driver.advance(.milliseconds(100)).statements == [.resume(Epoch(6))])
        #expect(driver.advance(.seconds(8)).kills)
    }

    @Test("--on-session-loss kill kills at the first lost session") func killsOnSessionLoss() throws {
        var driver = try Driver.running(killOnSessionLoss: true)
        #expect(driver.feed(.sessionLost(driver.session, reason: "broken")).kills)
    }

    @Test("R7: nothing is released before the guard says that the tree is empty") func releasesOnlyAnEmptyTree() throws
    {
        var driver = try Driver.running()
        #expect(
            driver.feed(.stopRequested(.drain)).orders == [
                .signal(driver.start, number: 15), .signal(driver.start, number: 18),
            ])
        driver.feed(.guardAnswered(.exited(driver.start, .code(0))))
        #expect(!driver.log.statements.contains { $0.releases })
        #expect(driver.feed(.guardAnswered(.empty(driver.start))).statements == [.release(Epoch(6), beat: 0)])
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.statements.contains(.auxiliary(.notify)))
        #expect(driver.log.exits == [.stopped(killed: false)])
    }

    @Test("R7: a draining child is renewed for, and killed when its grace is over") func graceEnds() throws {
        var driver = try Driver.running()
        driver.feed(.stopRequested(.drain))
        for beat in 1...14 {
            #expect(driver.advance(.seconds(2)).statements.contains(.renew(Epoch(6))))
            let deadline = driver.now + .seconds(8)
            let actions = driver.reply(.renewal(.renewed(beat: Int64(beat), fenced: 0)))
            #expect(
                actions.orders == [.extend(driver.start, deadline: deadline, token: 0)],
                "the guard would kill what drains")
            driver.settle()
        }
        #expect(driver.advance(.seconds(2)).kills)
        driver.reply(.renewal(.renewed(beat: 15, fenced: 0)))
        driver.settle()
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.exits == [.stopped(killed: true)])
    }

    @Test("A second request to stop kills at once") func secondStopKills() throws {
        var driver = try Driver.running()
        driver.feed(.stopRequested(.drain))
        #expect(driver.feed(.stopRequested(.drain)).kills)
    }

    @Test("A terminal that goes may be told of twice, which is no hurry") func terminalGone() throws {
        var driver = try Driver.running()
        driver.feed(.stopRequested(.terminalGone))
        #expect(!driver.feed(.stopRequested(.terminalGone)).kills)
        #expect(driver.feed(.stopRequested(.drain)).kills)
    }

    @Test("Further requests to stop do not change why it ends") func reasonOfTheEndStays() throws {
        var killed = try Driver.running()
        for _ in 0..<3 { killed.feed(.stopRequested(.drain)) }
        killed.feed(.guardAnswered(.empty(killed.start)))
        killed.reply(.released(true))
        killed.settle()
        #expect(killed.log.exits == [.stopped(killed: true)])

        var guardless = try Driver.running()
        guardless.feed(.guardGone)
        guardless.feed(.stopRequested(.drain))
        guardless.feed(.descendantsGone)
        guardless.reply(.released(true))
        guardless.settle()
        #expect(guardless.log.exits == [.guardLost])
    }

    @Test("R7: only the session that last renewed releases; a new one renews first") func releaseNeedsTheSession()
        throws
    {
        var driver = try Driver.running()
        driver.feed(.stopRequested(.drain))
        driver.feed(.sessionLost(driver.session, reason: "broken"))
        driver.feed(.guardAnswered(.empty(driver.start)))
        driver.advance(.milliseconds(100))
        #expect(driver.open().statements == [.resume(Epoch(6))])
        #expect(driver.reply(.renewal(.renewed(beat: 4, fenced: 0))).statements == [.release(Epoch(6), beat: 4)])
    }

    @Test("R12: after a loss a silent guard is killed after 100 ms, and its tree falls to the keeper")
    func silentGuardDies()
        throws
    {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.guardAnswers = false
        driver.reply(.renewal(.notOurs))
        #expect(!driver.advance(.milliseconds(99)).contains(.killGuard))
        #expect(driver.advance(.milliseconds(1)).contains(.killGuard))
        #expect(driver.feed(.guardGone).contains(.killDescendants))
        #expect(!driver.log.statements.contains(.unlock))
        #expect(driver.feed(.descendantsGone).statements == [.unlock])
        driver.reply(.done)
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
    }

    @Test("R12: a guard that says it is killing has another 100 ms, a silent one has not") func busyGuardLives() throws
    {
        var driver = try Driver.running()
        driver.guardAnswers = false
        driver.advance(.seconds(8))
        driver.advance(.milliseconds(90))
        driver.feed(.guardAnswered(.killing(driver.start, .deadline)))
        #expect(!driver.advance(.milliseconds(90)).contains(.killGuard))
        #expect(driver.advance(.milliseconds(10)).contains(.killGuard))
    }

    @Test("R12: a guard that answers after a loss and then falls silent over its killing is killed")
    func guardSilentWhileKilling() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        driver.guardAnswers = false
        driver.advance(.milliseconds(100))
        #expect(!driver.log.contains(.killGuard))
        #expect(driver.advance(.milliseconds(100)).contains(.killGuard))
    }

    @Test("R12: the patience with a silent guard leaves the margin of a short TTL to clock rates and killing")
    func patienceIsPaidFor() throws {
        var driver = try Driver.running(ttl: .milliseconds(500))
        driver.guardAnswers = false
        driver.advance(.milliseconds(400))
        #expect(!driver.advance(.milliseconds(24)).contains(.killGuard))
        #expect(driver.advance(.milliseconds(1)).contains(.killGuard))
    }

    @Test("R4: a session that cannot unlock is closed, for nothing else is sure to drop its lock")
    func failedUnlockEndsTheSession() throws {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.reply(.renewal(.notOurs))
        driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(driver.log.statements.contains(.unlock))
        #expect(
            driver.feed(.statementFailed(driver.session, reason: "canceled")).contains(.closeSession(driver.session)))
        #expect(driver.isStandby)
    }

    @Test("R5: a renewal that fails after the loss does not stand for the unlock") func failedRenewalIsNoUnlock() throws
    {
        var driver = try Driver.running()
        driver.advance(.seconds(2))
        driver.advance(.seconds(6))
        driver.feed(.guardAnswered(.empty(driver.start)))
        #expect(driver.feed(.statementFailed(driver.session, reason: "canceled")).statements == [.unlock])
    }

    @Test("A dead guard's tree is killed by the keeper before the lease is released") func deadGuard() throws {
        var driver = try Driver.running()
        #expect(driver.feed(.guardGone).contains(.killDescendants))
        #expect(!driver.advance(.seconds(2)).statements.contains { $0.releases })
        #expect(driver.feed(.descendantsGone).statements == [.release(Epoch(6), beat: 0)])
        driver.reply(.released(true))
        driver.settle()
        #expect(driver.log.exits == [.guardLost])
    }

    @Test("R12: answers about another start are ignored") func staleAnswers() throws {
        var driver = try Driver.running()
        let stale = StartID(driver.start.rawValue + 7)
        driver.feed(.stopRequested(.drain))
        driver.feed(.guardAnswered(.empty(stale)))
        #expect(!driver.log.statements.contains { $0.releases })
    }

    @Test("R12: a guard that claims a tree where there can be none is killed") func confusedGuard() throws {
        var driver = try Driver.leading()
        #expect(driver.feed(.guardAnswered(.notStarted(driver.start, .treeAlive))).contains(.killGuard))
    }

    @Test("A tree that died of an old deadline while the lease was renewed is started again")
    func staleDeadlineRestarts()
        throws
    {
        var driver = try Driver.running()
        driver.feed(.guardAnswered(.killing(driver.start, .deadline)))
        #expect(driver.feed(.guardAnswered(.empty(driver.start))).starts)
    }

    @Test("Signals for the child go to the guard") func forwards() throws {
        var driver = try Driver.running()
        #expect(driver.feed(.signalReceived(10)).orders == [.signal(driver.start, number: 10)])
    }

    @Test("A claim that was under way when the stop came is released, not started") func stopDuringClaim() throws {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        #expect(driver.feed(.stopRequested(.drain)).exits.isEmpty)
        let actions = driver.reply(.claim(.claimed(Epoch(6), fenced: 0)))
        #expect(!driver.log.starts)
        #expect(actions.statements == [.release(Epoch(6), beat: 0)])
    }
}

extension Statement {
    var releases: Bool { if case .release = self { true } else { false } }
}
