// The guard's loop around the real guard machine, and the kernel below it: fork, exec, kill, reap. Killing takes time; a
// stopped guard kills nobody; a dead one takes its command along and leaves the rest to the keeper.
//
// That this is how the real guard's loop and the real kernel behave is what `compare-guard` looks at.

import Clock
import Orders

@testable import Guard

final class ModelGuard: Alarmed {
    /// Undead: SIGKILLed, but traced, frozen or in state D. It runs no more, and its children do not know.
    enum State { case running, stopped, undead, dead }

    /// What a packet from the keeper is.
    enum Packet {
        case order(Order)
        case nonsense
    }

    unowned(unsafe) let stage: Stage
    unowned(unsafe) let owner: any GuardOwner
    let host: Host
    let flaw: GuardFlaw?
    private var machine = GuardMachine()
    private(set) var state = State.running
    private(set) var tree: ProcessTree?
    private var inbox: [Packet] = []
    private var timer: Instant?
    private let timerBell = Bell()
    /// How long the machine had been suspended when the timer was set.
    private var asleepBefore: Time = 0
    private(set) var isKeeperGone = false
    /// It has read the end of the channel, and says nothing any more.
    private(set) var knowsKeeperGone = false
    private var isInside = false
    /// A fault: until then SIGKILL does not take effect.
    private var holdsOnUntil: Time = 0
    // What the kernel will tell at the next look.
    private var outcome: ChildStart.Outcome?
    private var reaped: Int32?
    private var isEmptied = false
    private var hunts = 0
    private(set) var isHunting = false
    /// The worst lateness since the last report, and the one of the report before.
    private var lateness: (now: Duration, before: Duration) = (.zero, .zero)
    private var stoppedAt: Time = 0
    /// A flaw's: the hunt rests until then.
    private var huntRestsUntil: Time = 0
    /// A flaw's: when the packets in the inbox were sent.
    private var relativeSince: [Instant] = []

    var isRunning: Bool { state == .running && !host.isSuspended }
    var name: String { owner.name }

    init(owner: any GuardOwner, stage: Stage, host: Host, flaw: GuardFlaw?) {
        self.owner = owner
        self.stage = stage
        self.host = host
        self.flaw = flaw
        timerBell.owner = self
    }

    /// A copy of that guard, with a copy of its tree. Only of one at rest.
    convenience init(
        copying other: ModelGuard, owner: any GuardOwner, host: Host, tree copyOf: (ModelGuard) -> ProcessTree?
    ) {
        self.init(owner: owner, stage: other.stage, host: host, flaw: other.flaw)
        machine = other.machine
        tree = copyOf(self)
        if let timer = other.timer { setTimer(timer) }
    }

    /// Nothing is on its way into it, and it kills nobody.
    var isAtRest: Bool { isRunning && !isInside && inbox.isEmpty && !isHunting && outcome == nil && reaped == nil }

    /// How many packets it has not read yet.
    var unread: Int { inbox.count }

    /// The guard is set up and says so.
    func begin() { owner.said(.ready) }

    /// A packet is in the channel.
    func receive(_ packet: Packet, sentAt: Instant) {
        guard state != .dead else { return }
        inbox.append(packet)
        if flaw == .relativeDeadlines { relativeSince.append(sentAt) }
        let starvation = host.starvation(at: stage.now)
        guard starvation > 0 else { return run() }
        stage.after(stage.random.time(0, starvation)) { [self] in run() }
    }

    // MARK: The loop

    /// The clock first, then exec outcomes, orders, exits.
    func run() {
        guard isRunning, !isInside, machine.state != .left else { return }
        isInside = true
        defer { isInside = false }
        let now = host.clock(at: stage.now)
        if !ignoresTimer { perform(machine.tick(now: now)) }
        learnOutcome()
        while !inbox.isEmpty { take(inbox.removeFirst(), now: now) }
        if isKeeperGone {
            knowsKeeperGone = true
            perform(machine.keeperGone())
        }
        if let status = reaped, let pid = machine.commandPid {
            reaped = nil
            learnOutcome()
            perform(machine.reaped(pid: pid, status: status))
            if flaw == .emptyWithoutDaemons { perform(machine.treeEmpty()) }
        }
        if isEmptied {
            isEmptied = false
            isHunting = false
            timer = nil
            perform(machine.treeEmpty())
        }
    }

    private func take(_ packet: Packet, now: Instant) {
        guard case .order(var order) = packet else { return perform(machine.nonsense()) }
        if !relativeSince.isEmpty {
            // Counted from now instead of from the sending.
            let lateness = now.since(relativeSince.removeFirst())
            switch order {
            case .start(let generation, let deadline, let index, let environment):
                order = .start(generation, deadline: deadline + lateness, commandIndex: index, environment: environment)
            case .extend(let generation, let deadline, let token):
                order = .extend(generation, deadline: deadline + lateness, token: token)
            case .ping, .signal, .kill, .handicap: break
            }
        }
        if flaw == .extendAfterKill, isHunting, case .extend(_, let deadline, _) = order {
            huntRestsUntil = host.time(of: deadline)
        }
        perform(machine.order(order, now: ignoresTimer ? Instant(nanoseconds: 0) : now))
    }

    private var ignoresTimer: Bool { flaw == .noGuardTimer }

    private func learnOutcome() {
        guard let known = outcome else { return }
        outcome = nil
        switch known {
        case .unknown: return
        case .executed: perform(machine.executed())
        case .failed(let reason): perform(machine.executionFailed(reason))
        }
    }

    private func perform(_ actions: [GuardMachine.Action]) {
        for action in actions {
            switch action {
            case .say(let answer):
                switch answer {
                case .pong, .extended: owner.said(.strained(Strain(lateness: measuredLateness())))
                default: break
                }
                owner.said(answer)
            case .fork(let generation, let deadline, let index, let environment):
                fork(generation, deadline, index, environment)
            case .wake(let instant): setTimer(instant)
            case .signal(_, let number): tree?.signal(number)
            case .kill: beginHunt()
            case .leave: state = .dead
            }
        }
    }

    /// Its timer goes off so often that it sees nearly the worst.
    private func measuredLateness() -> Duration {
        let starvation = host.starvation(at: stage.now)
        if starvation > 0 { wasLate(by: stage.random.time(starvation * 85 / 100, starvation)) }
        defer { lateness = (.zero, lateness.now) }
        return max(lateness.now, lateness.before)
    }

    /// It did not run for so long, although its timer wanted it to.
    func wasLate(by time: Time) {
        guard machine.hasChild else { return }
        lateness.now = max(lateness.now, .nanoseconds(time))
    }

    private func setTimer(_ instant: Instant) {
        guard !ignoresTimer else { return }
        timer = instant
        asleepBefore = host.suspendedFor
        let due =
            max(host.time(of: instant), stage.now) + stage.random.time(20_000, millisecond / 2)
            + stage.random.time(0, host.starvation(at: max(host.time(of: instant), stage.now)))
        stage.set(timerBell, at: due)
    }

    /// The timer goes off.
    func ring(_ bell: Bell) {
        guard flaw == .monotonicTimer, host.suspendedFor > asleepBefore else { return run() }
        stage.set(bell, at: stage.now + host.suspendedFor - asleepBefore)
        asleepBefore = host.suspendedFor
    }

    // MARK: The kernel

    private func fork(_ generation: StartID, _ deadline: Instant, _ index: Int, _ environment: [String]) {
        if let failure = owner.forkFailure(commandIndex: index) {
            return perform(machine.forkFailed(.cannotFork(errno: failure)))
        }
        let tree = owner.makeTree(
            of: self, generation, deadline: deadline, commandIndex: index, environment: environment)
        self.tree = tree
        outcome = nil
        reaped = nil
        isEmptied = false
        perform(machine.forked(pid: tree.pid))
        tree.executeLater()
    }

    /// What became of an exec.
    func learned(_ outcome: ChildStart.Outcome, of tree: ProcessTree) {
        guard tree === self.tree else { return }
        self.outcome = outcome
        if case .failed = outcome { reaped = WaitStatus.code(127) }
        stage.after(20_000) { [self] in run() }
    }

    /// The command's own process ended.
    func commandEnded(_ tree: ProcessTree, status: Int32) {
        guard tree === self.tree else { return }
        reaped = status
        stage.after(20_000) { [self] in run() }
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
        let takes = owner.killTime()
        let first = stage.random.time(0, takes)
        for (when, isLast) in [(first, false), (takes, true)] {
            stage.after(when) { [self] in stroke(hunt, isLast: isLast) }
        }
    }

    private func stroke(_ hunt: Int, isLast: Bool) {
        // A stopped guard goes on where it was.
        guard hunts == hunt, isRunning, let tree else { return }
        if stage.now < huntRestsUntil {
            return stage.at(huntRestsUntil) { [self] in stroke(hunt, isLast: true) }
        }
        if !isLast, tree.hasCommand, stage.random.chance(0.5) {
            tree.killCommand(status: WaitStatus.signal(9))
        } else if isLast {
            // Also of a child that is killed before its exec, an exit is told.
            tree.killCommand(status: WaitStatus.signal(9))
            tree.die()
            isEmptied = true
            run()
        }
    }

    // MARK: Faults

    /// SIGSTOP.
    func stop() {
        guard state == .running else { return }
        state = .stopped
        stoppedAt = stage.now
        owner.guardStateChanged()
    }

    /// SIGCONT, or the machine is awake again.
    func resume() {
        // Who holds it goes on holding it.
        if state == .stopped, stage.now >= holdsOnUntil {
            state = .running
            wasLate(by: stage.now - stoppedAt)
        }
        owner.guardStateChanged()
        guard isRunning else { return }
        if isHunting { huntOn() }
        // A timer that is due has gone off.
        if flaw != .monotonicTimer || !inbox.isEmpty { run() }
    }

    /// Traced by somebody who is stopped, or frozen alone: it does not run, and cannot die until then either.
    func hold(until time: Time) {
        guard state == .running || state == .stopped else { return }
        holdsOnUntil = time
        stop()
        stage.at(time) { [self] in resume() }
    }

    /// SIGKILL: the kernel takes the command along (PR_SET_PDEATHSIG); the rest falls to the keeper.
    func die() {
        guard state != .dead else { return }
        guard stage.now >= holdsOnUntil else {
            stage.trace { "\(self.name): guard does not die" }
            state = .undead
            owner.guardStateChanged()
            return stage.at(holdsOnUntil) { [self] in die() }
        }
        state = .dead
        stage.trace { "\(self.name): guard dies" }
        tree?.guardDied()
        owner.guardDied()
        owner.guardStateChanged()
    }

    /// The keeper's end of the channel is closed.
    func keeperEnded() {
        isKeeperGone = true
        stage.after(stage.random.time(5_000, 50_000)) { [self] in run() }
    }

    /// The world is over.
    func forget() { tree = nil }

    /// Its container is gone.
    func vanish() { state = .dead }

    func vanishWithTree() {
        state = .dead
        tree?.die()
    }
}
