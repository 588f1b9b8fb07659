// The tree of one start in a world: which epoch it runs under, and what excuses it when the judge looks.

import Clock

@testable import GuardModel
@testable import Lease

final class Child: ProcessTree {
    let keeper: Keeper
    let epoch: Epoch
    /// Beyond what can be promised, for good; see `Judge`.
    var isBeyond = false
    /// Beyond it because of hands in the table, until a renewal succeeds.
    var isBeyondByHand = false
    var isExcused: Bool { isBeyond || isBeyondByHand || isHelpless }
    /// Keeper and guard are stopped, both.
    var isHelpless = false
    private var wasSignalled = false
    /// Nobody wanted its end.
    private(set) var hasEndedByItself = false
    /// After a thaw: until when its guard may need to kill it.
    var graceUntil: Time = 0

    var ttl: Time { keeper.ttl }
    var name: String { "\(keeper.name)/\(number)" }
    private var world: World { keeper.world }

    init(keeper: Keeper, number: UInt64, epoch: Epoch, deadline: Instant) {
        self.keeper = keeper
        self.epoch = epoch
        super.init(guardian: keeper.guardian, number: number, deadline: deadline)
    }

    /// A copy on a copy of its machine, below the copy of its guard.
    init(copying original: Child, keeper: Keeper, guardian: ModelGuard) {
        self.keeper = keeper
        epoch = original.epoch
        super.init(guardian: guardian, number: original.number, deadline: original.deadline)
        become(copyOf: original)
    }

    override func executionTime() -> Time? {
        let slow = world.hasSlowExec && world.random.chance(0.3)
        if slow { world.felt(.children) }
        return slow ? world.random.time(0, keeper.ttl * 3 / 2) : world.random.time(100_000, 2 * millisecond)
    }

    override func began(isLate: Bool) {
        hasDaemons = world.random.chance(0.4)
        world.trace { "\(self.name): runs, epoch \(self.epoch)" }
        world.judge.began(self, isLate: isLate)
    }

    override func live() {
        if world.failsAtOnce || world.shortLives { world.felt(.children) }
        if world.failsAtOnce { exitLater(world.random.time(0, 50 * millisecond)) }
        if world.shortLives { exitLater(world.random.time(0, 4 * keeper.ttl)) }
    }

    override func signal(_ number: Int32) {
        guard number == 15, hasCommand else { return }
        wasSignalled = true
        exitLater(world.random.time(0, keeper.ttl * 2))
    }

    func exitLater(_ delay: Time) { exitLater(delay, status: WaitStatus.code(1)) }

    override func exits() { hasEndedByItself = !wasSignalled && !guardian.isHunting }

    override func ended() {
        guard !isAlive else { return world.judge.torn(self) }
        world.trace { "\(self.name): all dead" }
        world.judge.ended(self)
    }
}
