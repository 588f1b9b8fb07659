// The guard's loop around the real guard machine, and the kernel below it: fork, exec, kill, reap. Killing takes time; a
// stopped guard kills nobody; a dead one takes its command along and leaves the rest to the keeper.

import Clock

@testable import Guard
@testable import Lease

final class GuardProcess {
    enum State { case running, stopped, dead }

    unowned(unsafe) let world: World
    unowned(unsafe) let keeper: Keeper
    let host: Host
    private var machine = GuardMachine()
    private(set) var state = State.running
    private(set) var tree: ProcessTree?
    private var inbox: [Order] = []
    private var timer: Instant?
    private var timers = 0
    private var isKeeperGone = false
    private var isInside = false
    private var lastToGuard: Time = 0
    private var lastToKeeper: Time = 0
    /// The last answers about a start: a guard may repeat itself, and R12 says that it does no harm.
    private var said: [GuardAnswer] = []
    // What the kernel will tell at the next look.
    private var outcome: Bool?
    private var reaped: Int32?
    private var isEmptied = false
    private var hunts = 0
    private var isHunting = false
    /// A twin's: the hunt rests until then.
    private var huntRestsUntil: Time = 0

    var isRunning: Bool { state == .running && !host.isSuspended }
    var name: String { keeper.name }

    init(keeper: Keeper) {
        self.keeper = keeper
        world = keeper.world
        host = keeper.host
    }

    /// How long killing this tree takes once begun.
    func killTime() -> Time { world.random.time(0, Time(Double(keeper.ttl) * world.profile.killPart)) }

    // MARK: The pipe

    func deliver(_ order: GuardOrder) {
        guard state != .dead, !isKeeperGone else { return }
        guard let translated = translate(order) else { return }
        let sentAt = host.clock(at: world.now)
        lastToGuard = max(lastToGuard, world.now + world.random.time(5_000, 100_000))
        world.at(lastToGuard) { [self] in
            guard state != .dead else { return }
            inbox.append(translated)
            if world.twin == .relativeDeadlines { relativeSince.append(sentAt) }
            run()
        }
    }

    /// A twin's: when the orders in the inbox were sent.
    private var relativeSince: [Instant] = []

    private func translate(_ order: GuardOrder) -> Order? {
        switch order {
        case .ping(let token): .ping(token: token)
        case .start(let id, let deadline, let epoch):
            .start(
                Generation(rawValue: id.rawValue), deadline: deadline, commandIndex: 1, environment: ["\(epoch)"])
        case .extend(let id, let deadline): .extend(Generation(rawValue: id.rawValue), deadline: deadline)
        case .signal(let id, let number): .signal(Generation(rawValue: id.rawValue), number: number)
        case .kill(let id): .kill(Generation(rawValue: id.rawValue))
        }
    }

    private func say(_ answer: Answer) {
        guard let translated = translate(answer) else { return }
        say(translated)
        guard case .pong = translated else {
            said.append(translated)
            if said.count > 8 { said.removeFirst() }
            return
        }
        if !said.isEmpty, world.random.chance(0.02) { say(world.random.pick(said)) }
    }

    private func say(_ answer: GuardAnswer) {
        lastToKeeper = max(lastToKeeper, world.now + world.random.time(5_000, 100_000))
        world.at(lastToKeeper) { [self] in keeper.hear(.guardAnswered(answer)) }
    }

    private func translate(_ answer: Answer) -> GuardAnswer? {
        switch answer {
        case .ready, .extended: nil
        case .pong(let token): .pong(token)
        case .started(let generation, let pid): .started(StartID(generation.rawValue), pid: pid)
        case .notStarted(let generation, let why): .notStarted(StartID(generation.rawValue), translate(why))
        case .exited(let generation, let status): .exited(StartID(generation.rawValue), .code(status))
        case .killing(_, .childExited): nil
        case .killing(let generation, let cause):
            .killing(StartID(generation.rawValue), byDeadline: cause == .deadline)
        case .empty(let generation): .empty(StartID(generation.rawValue))
        }
    }

    private func translate(_ why: Guard.NotStarted) -> Lease.NotStarted {
        switch why {
        case .cannotExecute(let errno): .cannotExecute(errno: errno)
        case .cannotFork(let errno): .cannotFork(errno: errno)
        case .deadlinePassed: .deadlinePassed
        case .treeAlive, .stale: .refused
        }
    }

    // MARK: The loop

    /// The clock first, then exec outcomes, orders, exits.
    func run() {
        guard isRunning, !isInside, machine.state != .left else { return }
        isInside = true
        defer { isInside = false }
        let now = host.clock(at: world.now)
        if !ignoresTimer { perform(machine.tick(now: now)) }
        learnOutcome()
        while !inbox.isEmpty { take(inbox.removeFirst(), now: now) }
        if isKeeperGone { perform(machine.keeperGone()) }
        if let status = reaped, let pid = machine.commandPid {
            reaped = nil
            learnOutcome()
            perform(machine.reaped(pid: pid, status: status))
            if world.twin == .emptyWithoutDaemons { perform(machine.treeEmpty()) }
        }
        if isEmptied {
            isEmptied = false
            isHunting = false
            timer = nil
            perform(machine.treeEmpty())
        }
    }

    private func take(_ order: Order, now: Instant) {
        var order = order
        if !relativeSince.isEmpty {
            // Counted from now instead of from the sending.
            let lateness = now.since(relativeSince.removeFirst())
            switch order {
            case .start(let generation, let deadline, let index, let environment):
                order = .start(generation, deadline: deadline + lateness, commandIndex: index, environment: environment)
            case .extend(let generation, let deadline): order = .extend(generation, deadline: deadline + lateness)
            case .ping, .signal, .kill: break
            }
        }
        if world.twin == .extendAfterKill, isHunting, case .extend(_, let deadline) = order {
            huntRestsUntil = host.time(of: deadline)
        }
        perform(machine.order(order, now: ignoresTimer ? Instant(nanoseconds: 0) : now))
    }

    private var ignoresTimer: Bool { world.twin == .noGuardTimer }

    private func learnOutcome() {
        guard let executed = outcome else { return }
        outcome = nil
        perform(executed ? machine.executed() : machine.executionFailed(.deadlinePassed))
    }

    private func perform(_ actions: [GuardMachine.Action]) {
        for action in actions {
            switch action {
            case .say(let answer): say(answer)
            case .fork(let generation, let deadline, _, let environment):
                fork(generation, deadline, epoch: environment.first ?? "")
            case .wake(let instant): setTimer(instant)
            case .signal(_, let number): tree?.signal(number)
            case .kill: beginHunt()
            case .leave: state = .dead
            }
        }
    }

    private func setTimer(_ instant: Instant) {
        guard !ignoresTimer else { return }
        timer = instant
        timers += 1
        let mine = timers
        var due = host.time(of: instant)
        let asleep = host.suspendedFor
        due = max(due, world.now) + world.random.time(20_000, millisecond / 2)
        world.at(due) { [self] in
            guard timers == mine else { return }
            guard world.twin == .monotonicTimer, host.suspendedFor > asleep else { return run() }
            world.after(host.suspendedFor - asleep) { [self] in if timers == mine { run() } }
        }
    }

    // MARK: The kernel

    private func fork(_ generation: Generation, _ deadline: Instant, epoch: String) {
        if world.failsForks, world.random.chance(0.2) {
            return perform(machine.forkFailed(.cannotFork(11)))
        }
        let tree = ProcessTree(
            guardian: self, number: generation.rawValue, epoch: Epoch(Int64(epoch) ?? 0), deadline: deadline)
        self.tree = tree
        outcome = nil
        reaped = nil
        isEmptied = false
        perform(machine.forked(pid: tree.pid))
        tree.executeLater()
    }

    func executed(_ tree: ProcessTree, _ success: Bool) {
        guard tree === self.tree else { return }
        outcome = success
        if !success { reaped = 127 }
        world.after(20_000) { [self] in run() }
    }

    /// The command's own process ended.
    func commandEnded(_ tree: ProcessTree, status: Int32) {
        guard tree === self.tree else { return }
        reaped = status
        world.after(20_000) { [self] in run() }
    }

    /// R1: when this start's child must be dead, as the guard knows.
    var deadline: Instant? { timer }

    private func beginHunt() {
        guard !isHunting else { return }
        isHunting = true
        huntOn()
    }

    private func huntOn() {
        hunts += 1
        let hunt = hunts
        let takes = killTime()
        let first = world.random.time(0, takes)
        for (when, isLast) in [(first, false), (takes, true)] {
            world.after(when) { [self] in stroke(hunt, isLast: isLast) }
        }
    }

    private func stroke(_ hunt: Int, isLast: Bool) {
        // A stopped guard goes on where it was.
        guard hunts == hunt, isRunning, let tree else { return }
        if world.now < huntRestsUntil {
            return world.at(huntRestsUntil) { [self] in stroke(hunt, isLast: true) }
        }
        if !isLast, tree.hasCommand, world.random.chance(0.5) {
            tree.killCommand(status: 9)
        } else if isLast {
            if tree.hasCommand { tree.killCommand(status: 9) }
            tree.die()
            isEmptied = true
            run()
        }
    }

    // MARK: Faults

    func stop() {
        guard state == .running else { return }
        state = .stopped
        world.judge.look(at: keeper)
    }

    /// SIGCONT, or the machine is awake again.
    func resume() {
        if state == .stopped { state = .running }
        guard isRunning else { return }
        if isHunting { huntOn() }
        // A timer that is due has gone off.
        if world.twin != .monotonicTimer || !inbox.isEmpty { run() }
    }

    /// SIGKILL: the kernel takes the command along (PR_SET_PDEATHSIG); the rest falls to the keeper.
    func die() {
        guard state != .dead else { return }
        state = .dead
        world.trace { "\(self.name): guard dies" }
        tree?.guardDied()
        keeper.guardDied()
        world.judge.look(at: keeper)
    }

    func keeperEnded() {
        isKeeperGone = true
        world.after(world.random.time(5_000, 50_000)) { [self] in run() }
    }

    /// Its container is gone.
    func vanish() { state = .dead }

    func vanishWithTree() {
        state = .dead
        tree?.die()
    }
}
