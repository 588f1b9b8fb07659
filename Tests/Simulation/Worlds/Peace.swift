// After the faults: everything is mended, and once more the leader is taken away.

import Clock

@testable import GuardModel
@testable import Lease

extension World {
    /// The end of all faults, except those that a sidecar has to cope with for good.
    func heal() {
        trace { "peace" }
        stalls = 0
        failsForks = false
        hasSlowExec = false
        shortLives = false
        failsAtOnce = false
        stopsKillingGuards = false
        spikes = 0
        server.slowness = 0
        server.failures = 0
        server.losesNotifications = false
        if server.stored.row?.record.suspended == true { server.edit { $0.row?.record.suspended = false } }
        if !server.isRunning { server.start() }
        for host in hosts {
            host.slowness = 0
            host.replySlowness = 0
            reconnect(host)
            thaw(host)
        }
        endOrphans()
        for keeper in keepers { keeper.resume() }
        for host in hosts where keepers[host.index].state == .dead { restart(host) }
    }

    /// Nobody is left who could end these.
    private func endOrphans() {
        for tree in judge.trees where tree.isBeyond && !tree.keeper.canAct { tree.guardian.vanishWithTree() }
    }

    /// The leader goes, in one of the ways that leave its host out of the game; somebody else must take over.
    func takeAwayLeader() {
        guard let keeper = keepers.first(where: { $0.leadership != nil }) else { return }
        heldBack.insert(keeper.host.index)
        let kind = random.below(profile.hasClocksOnly ? 4 : 5)
        trace { "the leader \(keeper.name) is taken away (\(kind))" }
        switch kind {
        case 0: keeper.vanish()
        case 1: keeper.die()
        case 2: keeper.stop()
        case 3: keeper.signal(.stop(.drain))
        default:
            lastGuardFault = now
            keeper.guardian.stop()
        }
        endOrphans()
    }
}
