// What one start brought forth: the command, and what it left to itself. Alive as long as any of it is.

import Clock

@testable import Lease

final class ProcessTree {
    unowned(unsafe) let world: World
    let guardian: GuardProcess
    let keeper: Keeper
    let host: Host
    let number: UInt64
    let epoch: Epoch
    let pid: Int32 = 2
    private let deadline: Instant
    private var isBeforeExec = true
    private(set) var hasCommand = false
    private(set) var hasDaemons = false
    /// Beyond what can be promised; see `Judge`.
    var isBeyond = false
    /// `released` was set by hand, and no renewal has succeeded since.
    var isReleasedByHand = false
    /// The TTL was shortened by hand, and no renewal has succeeded since.
    var isShortenedByHand = false
    /// After a thaw: until when its guard may need to kill it.
    var graceUntil: Time = 0

    var isAlive: Bool { hasCommand || hasDaemons }
    var isExecuting: Bool { isAlive && !host.isSuspended }
    var ttl: Time { keeper.ttl }
    var name: String { "\(keeper.name)/\(number)" }

    init(guardian: GuardProcess, number: UInt64, epoch: Epoch, deadline: Instant) {
        self.guardian = guardian
        keeper = guardian.keeper
        world = guardian.world
        host = guardian.host
        self.number = number
        self.epoch = epoch
        self.deadline = deadline
    }

    /// From fork to exec, which takes as long as the machine likes.
    func executeLater() {
        let slow = world.hasSlowExec && world.random.chance(0.3)
        let takes = slow ? world.random.time(0, keeper.ttl * 3 / 2) : world.random.time(100_000, 2 * millisecond)
        world.after(takes) { [self] in execute() }
    }

    private func execute() {
        guard isBeforeExec else { return }
        guard !host.isSuspended else { return world.at(world.now + millisecond) { [self] in execute() } }
        isBeforeExec = false
        let now = host.clock(at: world.now)
        guard now < deadline || world.twin == .noCheckBeforeExec else {
            return guardian.executed(self, false)
        }
        hasCommand = true
        hasDaemons = world.random.chance(0.4)
        world.trace { "\(self.name): runs, epoch \(self.epoch)" }
        world.judge.began(self, isLate: now >= deadline)
        guardian.executed(self, true)
        if world.failsAtOnce { exitLater(world.random.time(0, 50 * millisecond)) }
        if world.shortLives { exitLater(world.random.time(0, 4 * keeper.ttl)) }
    }

    /// The command ends by itself.
    func exitLater(_ delay: Time) {
        world.after(delay) { [self] in
            guard hasCommand, !host.isSuspended else { return }
            killCommand(status: 1)
        }
    }

    func signal(_ number: Int32) {
        guard number == 15, hasCommand else { return }
        exitLater(world.random.time(0, keeper.ttl * 2))
    }

    func killCommand(status: Int32) {
        guard isBeforeExec || hasCommand else { return }
        isBeforeExec = false
        hasCommand = false
        ended()
        guardian.commandEnded(self, status: status)
    }

    /// Everything is gone.
    func die() {
        guard isBeforeExec || isAlive else { return }
        isBeforeExec = false
        hasCommand = false
        hasDaemons = false
        ended()
    }

    /// The parent-death signal.
    func guardDied() {
        guard isBeforeExec || hasCommand else { return }
        isBeforeExec = false
        hasCommand = false
        ended()
    }

    private func ended() {
        guard !isAlive else { return world.judge.torn(self) }
        world.trace { "\(self.name): all dead" }
        world.judge.ended(self)
    }
}
