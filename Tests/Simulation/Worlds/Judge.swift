// What must never be, whatever happens: two trees alive, an epoch that does not grow, a child without a claim, a tree half
// killed, a successor hit by somebody's late statement. And what must come about: one child, soon after the last fault.
//
// What docs/protocol.md lists under "What cannot be promised" is exempt here, tree by tree and no wider: `isExcused`.

import Clock

@testable import GuardModel
@testable import Lease

final class Judge {
    unowned(unsafe) let world: World
    private(set) var violation: String?
    private(set) var trees: [Child] = []
    private var claims: [(epoch: Epoch, holder: InstanceID)] = []
    private var highest: (epoch: Epoch, holder: InstanceID)?
    /// Epochs that a fail-over or a hand has removed from the record.
    private var forgotten: [Epoch] = []
    /// The sidecars that had seen the very beat whose TTL was shortened by hand.
    private var sawBeforeEdit: Set<String> = []
    /// The smallest time between the end of one leadership's tree and the begin of the next one's.
    private(set) var narrowest: Time?
    private var lastEnd: (time: Time, keeper: Keeper)?
    /// Leaders that were copied while they led. One of the two loses at its next renewal, or at its deadline.
    private var copies: [Copied] = []
    private struct Copied {
        let one: Keeper
        let other: Keeper
        let epoch: Epoch
        /// Until then both may live.
        var until: Time
        /// One of them has renewed through a session that the other does not know: the other cannot renew any more.
        var isDecided = false
    }

    private(set) var endedTrees = 0
    /// How many of them were beyond what can be promised, and how many overlaps were excused for that.
    private(set) var excusedTrees = 0
    private(set) var excusedOverlaps = 0

    init(world: World) { self.world = world }

    func blame(_ what: @autoclosure () -> String) {
        guard violation == nil else { return }
        let text = what()
        world.trace { "VIOLATION: \(text)" }
        violation = text
    }

    // MARK: Trees

    func began(_ tree: Child, isLate: Bool) {
        if tree.keeper.hands == .beyond { tree.isBeyondByHand = true }
        if isLate { blame("\(tree.name) was started after its deadline") }
        let holder = tree.keeper.identity.instance
        if !claims.contains(where: { $0.epoch == tree.epoch && $0.holder == holder }) {
            blame("\(tree.name) runs without a claim")
        }
        if let highest, highest != (tree.epoch, holder), tree.epoch <= highest.epoch {
            if !tree.isExcused { blame("epoch \(tree.epoch) of \(tree.name) is not above \(highest.epoch)") }
        } else {
            highest = (tree.epoch, holder)
        }
        if let lastEnd, lastEnd.keeper !== tree.keeper {
            narrowest = min(narrowest ?? .max, world.now - lastEnd.time)
        }
        for other in trees where other.isExecuting { clash(other, tree) }
        trees.append(tree)
        look(at: tree.keeper)
    }

    func ended(_ tree: Child) {
        endedTrees += 1
        if tree.isExcused { excusedTrees += 1 }
        trees.removeAll { $0 === tree }
        if !tree.isExcused { lastEnd = (world.now, tree.keeper) }
    }

    /// A machine was copied with its living child: that much of two alive is not promised.
    func copied(_ one: Keeper, to other: Keeper, until: Time) {
        guard let original = one.child, let copy = other.child else { return }
        for pair in copies where pair.one === one || pair.other === one {
            // A copy of a copy is one of all of them.
            copies.append(
                Copied(
                    one: pair.one === one ? pair.other : pair.one, other: other, epoch: pair.epoch, until: pair.until,
                    isDecided: pair.isDecided))
        }
        copies.append(Copied(one: one, other: other, epoch: original.epoch, until: until))
        // The lock that holds a claim off is the original's.
        if one.hands != .off {
            other.hands = .beyond
            copy.isBeyondByHand = true
        }
        copy.isBeyond = original.isBeyond
        copy.graceUntil = original.graceUntil
        for tree in trees where tree !== original && tree.isExecuting { clash(tree, copy) }
        trees.append(copy)
        clash(original, copy)
    }

    /// A leader has renewed through a new session.
    func resumed(by keeper: Keeper, _ epoch: Epoch) {
        for index in copies.indices where copies[index].epoch == epoch && !copies[index].isDecided {
            guard copies[index].one === keeper || copies[index].other === keeper else { continue }
            copies[index].isDecided = true
            copies[index].until = max(copies[index].until, world.now + keeper.ttl)
        }
    }

    /// A leader has released what a copy of it may still hold to be its own.
    func released(by keeper: Keeper, _ epoch: Epoch) {
        for pair in copies where pair.epoch == epoch && (pair.one === keeper || pair.other === keeper) {
            let other = pair.one === keeper ? pair.other : pair.one
            if let tree = other.child, tree.epoch == epoch { tree.graceUntil = max(tree.graceUntil, pair.until) }
        }
    }

    /// Until when these two may both live, being copies of one another.
    private func copiesUntil(_ old: Child, _ new: Child) -> Time {
        guard old.epoch == new.epoch else { return 0 }
        let pair = copies.first {
            $0.epoch == old.epoch
                && ($0.one === old.keeper && $0.other === new.keeper
                    || $0.one === new.keeper && $0.other === old.keeper)
        }
        return pair?.until ?? 0
    }

    private func clash(_ old: Child, _ new: Child) {
        guard old !== new else { return }
        guard !old.isExcused, !new.isExcused else {
            excusedOverlaps += 1
            return
        }
        let grace = max(old.graceUntil, new.graceUntil, copiesUntil(old, new))
        guard world.now >= grace else {
            // One of them has just been thawed: it has as long as its guard needs to wake and kill.
            return world.at(grace) { [self] in
                if old.isExecuting, new.isExecuting { clash(old, new) }
            }
        }
        blame("\(old.name) and \(new.name) are alive at once")
    }

    /// How long killing it takes at most, once its guard is awake.
    private func killTime(_ tree: Child) -> Time {
        Time(Double(tree.ttl) * world.profile.killPart) + 2 * tree.host.starvation(at: world.now)
    }

    /// Its machine is awake again: the guard's timer goes off at once, and killing takes what it takes.
    func thawed(_ tree: Child) {
        let kill = killTime(tree) + 2 * millisecond
        if tree.guardian.isRunning {
            tree.graceUntil = world.now + kill
        } else if tree.keeper.canAct {
            tree.graceUntil = world.now + kill + tree.ttl / 5
        } else {
            tree.isBeyond = true
        }
        for other in trees where other !== tree && other.isExecuting { clash(tree, other) }
    }

    /// Part of it was killed, part of it lives: not for longer than killing takes.
    func torn(_ tree: Child) {
        let limit = Time(Double(tree.ttl) * (world.profile.killPart + 0.1)) + 200 * millisecond
        world.after(limit) { [self] in
            guard tree.isExecuting, !tree.hasCommand, !tree.isExcused, tree.guardian.isRunning else { return }
            if world.now - world.lastThaw > limit, world.now - world.lastGuardFault > limit {
                blame("\(tree.name) is half dead")
            }
        }
    }

    /// Keeper and guard are both out of action: nobody is left who could kill (in a container the kernel does), until one of
    /// them runs again.
    func look(at keeper: Keeper) {
        guard let tree = keeper.child, tree.isAlive else { return }
        let guardian = keeper.guardian.state
        if guardian != .running, world.now < tree.graceUntil {
            // Stopped or dead while it was to kill what had been thawed: now it takes the keeper's patience, too.
            tree.graceUntil = world.now + killTime(tree) + tree.ttl / 5
        }
        if guardian != .running, keeper.state != .running {
            world.trace { "\(tree.name) is helpless: keeper \(keeper.state), guard \(guardian)" }
            tree.isHelpless = true
            // Nobody of the two comes back who could still kill all of it.
            if guardian == .dead || keeper.state == .dead || keeper.state == .hung { tree.isBeyond = true }
        } else if tree.isHelpless {
            tree.isHelpless = false
            tree.graceUntil = world.now + killTime(tree) + tree.ttl / 5
            for other in trees where other !== tree && other.isExecuting { clash(tree, other) }
        }
    }

    // MARK: The record

    func claimed(_ epoch: Epoch, by keeper: Keeper) {
        claims.append((epoch, keeper.identity.instance))
        excuseWhatNobodyKnew(keeper)
        excuseWhatHandsShortened(keeper)
    }

    func created(by keeper: Keeper) { if world.twin != .createdWithShortTTL { excuseWhatNobodyKnew(keeper) } }

    /// A fail-over that lost the very claim that raised the TTL, and a reader that never saw it.
    private func excuseWhatNobodyKnew(_ keeper: Keeper) {
        for tree in trees where forgotten.contains(tree.epoch) && keeper.longestKnown < tree.keeper.timing.ttl {
            world.trace { "\(tree.name) is beyond: \(keeper.name) cannot know its TTL" }
            tree.isBeyond = true
        }
    }

    func forget(above epoch: Int64) {
        for claim in claims where claim.epoch.rawValue > epoch { forgotten.append(claim.epoch) }
    }

    func renewed(by keeper: Keeper) {
        guard keeper.hands != .off else { return }
        keeper.hands = .off
        for tree in trees where tree.keeper === keeper { tree.isBeyondByHand = false }
    }

    /// Somebody set `released`, or shortened the TTL, under a leader.
    func edited(released: Bool) {
        if !released, let seen = world.server.stored.row?.record {
            sawBeforeEdit = Set(
                world.keepers.filter {
                    $0.standby?.watch?.record.epoch == seen.epoch && $0.standby?.watch?.record.beat == seen.beat
                }.map(\.name))
        }
        // Also one whose claim has been taken and who has not heard of it.
        let holder = world.server.stored.row?.record.holder
        var leaders = world.keepers.filter { $0.leadership != nil || $0.identity.instance == holder }
        for tree in trees where !leaders.contains(where: { $0 === tree.keeper }) { leaders.append(tree.keeper) }
        for keeper in leaders { edited(under: keeper, released: released) }
    }

    /// Somebody changed the epoch: for everybody it is a record not seen before.
    func editedEpoch() { sawBeforeEdit = [] }

    private func edited(under keeper: Keeper, released: Bool) {
        // Only its lock holds a claim off until its next renewal.
        // The lock of a session that it has replaced goes any moment: what resumed past it leads without.
        let holdsLock = world.server.lockHolder.map { $0.connection === keeper.connection } ?? false
        switch keeper.hands {
        case .off where !released, .shortenedIt where !released: keeper.hands = .shortenedIt
        case .off where holdsLock, .releasedIt where released && holdsLock: keeper.hands = .releasedIt
        case .off, .releasedIt, .shortenedIt, .beyond: keeper.hands = .beyond
        }
        excuseTrees(of: keeper)
    }

    /// A TTL shortened by hand is not believed by who saw the very beat before. Others cannot know: not promised.
    private func excuseWhatHandsShortened(_ claimer: Keeper) {
        // Also of one whose command is just being started again.
        for keeper in trees.map(\.keeper) + world.keepers
        where keeper.hands == .shortenedIt && keeper !== claimer {
            if sawBeforeEdit.contains(claimer.name), claimer.longestKnown >= keeper.timing.ttl { continue }
            keeper.hands = .beyond
            excuseTrees(of: keeper)
        }
    }

    /// A hand-edited row while its leader has lost its session: not promised.
    func backendEnded(of keeper: Keeper) {
        if keeper.hands == .releasedIt { keeper.hands = .beyond }
        excuseTrees(of: keeper)
    }

    private func excuseTrees(of keeper: Keeper) {
        guard keeper.hands == .beyond else { return }
        for tree in trees where tree.keeper === keeper { tree.isBeyondByHand = true }
    }

    func claimedWhileSuspended(_ keeper: Keeper) { blame("\(keeper.name) claimed a suspended record") }

    func hitSuccessor(_ victim: Keeper, _ what: String) {
        guard victim.leadership != nil else { return }
        blame("\(victim.name): \(what)")
    }

    func fenced(exceptEpoch epoch: Epoch, current: Record?) {
        for tree in trees where tree.epoch != epoch {
            if let current, current.epoch == tree.epoch, current.holder == tree.keeper.identity.instance {
                blame("the sessions of \(tree.name) were terminated by an older leader")
            }
        }
    }

    func heard(_ notice: Notice, from keeper: Keeper) {
        switch notice {
        case .starting:
            // Its exits would not be counted, and it would be started again and again without a pause.
            guard let child = keeper.child, child.hasEndedByItself, !keeper.isStartExplained else { return }
            return blame("\(keeper.name) starts the command again as if \(child.name) had not ended by itself")
        case .restarting, .gaveUp, .claimed, .tookUpOwnRecord, .lost, .killing: keeper.isStartExplained = true
        default: break
        }
        guard case .lost(let loss) = notice else { return }
        if world.stopsKillingGuards, keeper.state == .running { world.stopWhileKilling(keeper) }
        guard keeper.isCalm, world.isCalm else { return }
        blame("\(keeper.name) lost its lease (\(loss)) although only sessions broke")
    }
}
