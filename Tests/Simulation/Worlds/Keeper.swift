// A keeper's process in a world, around the real loop with its links and its machine: when it runs, what it hears, how its effects
// get out. It can be stopped, stalled between two effects, hang or die. What its ports are is in KeeperPorts.swift.

import Clock
import Orders

@testable import GuardModel
@testable import Lease

final class Keeper: Alarmed {
    enum State { case running, stalled, stopped, hung, dead }

    /// Somebody edited the record under its leadership, and no renewal has succeeded since.
    enum Hands {
        case off
        /// They set `released`, while it held the lock.
        case releasedIt
        /// They shortened the TTL.
        case shortenedIt
        /// That is not promised: it had no session, or lost it before it could notice.
        case beyond
    }

    /// What the loop does to the world.
    enum Effect {
        case open
        case close(byFault: Bool)
        case ask(Statement)
        case order(Order)
        case killGuard
        case report(Notice)
    }

    unowned(unsafe) let world: World
    let host: Host
    let name: String
    let identity: Identity
    let timing: Timing
    let isCalm: Bool
    let startedAt: Time
    /// The loop at its own place: it is large, and not to be copied at every turn. Nil before it runs for the first time.
    private final class Running {
        var loop: KeeperLoop<WorldPorts>

        init(_ loop: KeeperLoop<WorldPorts>) { self.loop = loop }
    }

    private var running: Running?
    private(set) var state = State.running
    var hands = Hands.off
    private(set) lazy var guardian = ModelGuard(
        owner: self, stage: world, host: host, flaw: world.twin.flatMap { GuardFlaw(rawValue: $0.rawValue) })
    private(set) lazy var guardEnd = GuardEnd(self)
    private(set) lazy var session = SessionEnd(self)
    private(set) lazy var listener = ListenerEnd(self)
    let sabotage: Sabotage?
    /// The last one started.
    var child: Child?
    /// Since that one began: people were told of something that explains another start.
    var isStartExplained = false
    /// Signals that wait.
    private(set) var signals: [KeeperSignal] = []
    /// What it was about to do when it was stalled.
    private var held: [Effect] = []
    private let wakeBell = Bell()
    private var wake: Time?
    private var isInside = false
    /// The machine's role after the last event: while the loop turns, its own is not to be looked at.
    private var role: Role?
    /// R3: the leaderships it was shown, each until it has been in touch for that leadership's TTL without seeing it again.
    private var sights: [Epoch: (ttl: Duration, at: Instant)] = [:]
    /// The longest TTL among them, or its own: what an intact machine knows, whatever this one remembers.
    var longestKnown: Duration { sights.values.reduce(timing.ttl) { max($0, $1.ttl) } }

    var ttl: Time { timing.ttl.nanoseconds }
    var isRunning: Bool { state == .running && !host.isSuspended }
    /// Whether it can act on its own, now or a moment later.
    var canAct: Bool { state == .running || state == .stalled }
    var leadership: Leadership? { if case .leading(let leadership) = role { leadership } else { nil } }
    var standby: Standby? { if case .standby(let standby) = role { standby } else { nil } }
    /// Not while the loop turns.
    var machine: LeaseMachine? { running?.loop.machine }
    var connection: Connection? { session.connection }
    /// By its own clock.
    var now: Instant { host.clock(at: world.now) }

    init(world: World, host: Host, number: Int, timing: Timing) {
        self.world = world
        self.host = host
        self.timing = timing
        name = "\(host.index).\(number)"
        isCalm = world.profile.isCalm
        startedAt = world.now
        identity = Identity(lease: "l", node: "n\(host.index)", instance: InstanceID("i\(host.index).\(number)"))
        sabotage = world.twin.map { [timing, identity] in Sabotage(twin: $0, timing: timing, identity: identity) }
        wakeBell.owner = self
        world.after(0) { [self] in turn() }
    }

    /// A copy of that one on a copy of its machine, with a copy of its child. Its session is one that the server does not
    /// know: packets of two machines cannot share one.
    init(copying other: Keeper, on host: Host, number: Int) {
        world = other.world
        self.host = host
        name = "\(host.index).\(number)"
        timing = other.timing
        isCalm = other.isCalm
        startedAt = other.startedAt
        identity = other.identity
        sabotage = other.sabotage
        role = other.role
        sights = other.sights
        hands = other.hands
        wakeBell.owner = self
        guardian = ModelGuard(copying: other.guardian, owner: self, host: host) { [self] guardian in
            let copied = other.child.map { Child(copying: $0, keeper: self, guardian: guardian) }
            child = copied
            return copied
        }
        session.pretendOpen()
        guard var loop = other.running?.loop else { return }
        loop.ports = WorldPorts(keeper: self)
        loop.guardLink.port = guardEnd
        loop.database.session = session
        loop.listener = listener
        running = Running(loop)
    }

    /// The world is over.
    func forget() {
        child = nil
        running = nil
        session.forget()
        guardian.forget()
    }

    /// A copy goes on.
    func begin() { world.after(0) { [self] in turn() } }

    /// It waits with an idle session and a guard that has answered, and nothing is under way between them.
    var isAtRest: Bool {
        guard isRunning, !isInside, held.isEmpty, signals.isEmpty, !session.isUnread, guardEnd.isQuiet,
            guardian.isAtRest,
            let machine, machine.guardian.hasAnswered, case .idle = machine.link, case .running = leadership?.tree
        else { return false }
        return true
    }

    // MARK: The loop

    /// There is news for it: it turns, as soon as it gets the processor.
    func awake() {
        guard state != .dead, !isInside else { return }
        guard host.starvedSince != nil else { return turn() }
        world.after(world.random.time(0, host.starvation(at: world.now))) { [self] in turn() }
    }

    func signal(_ signal: KeeperSignal) {
        guard state != .dead else { return }
        signals.append(signal)
        awake()
    }

    func takeSignal() -> KeeperSignal? {
        guard state == .running, !signals.isEmpty else { return nil }
        return signals.removeFirst()
    }

    private func turn() {
        guard isRunning, !isInside else { return }
        guard held.isEmpty else { return goOn() }
        isInside = true
        if let running {
            running.loop.turn()
        } else {
            let running = Running(
                KeeperLoop(
                    settings: settings, ports: WorldPorts(keeper: self),
                    guardLink: GuardLink(guardEnd, commandIndex: 1, handicap: Handicap()), database: session,
                    listener: listener))
            self.running = running
            running.loop.begin()
        }
        isInside = false
        if state == .running { turned() }
    }

    private var settings: LeaseMachine.Settings {
        let restarts = RestartPolicy(
            maxRestarts: 3, window: timing.ttl * 10, cooldown: timing.ttl * 2, firstWait: timing.ttl / 10,
            longestWait: timing.ttl)
        return LeaseMachine.Settings(
            identity: identity, timing: timing, restarts: restarts, grace: timing.ttl * 3 / 2,
            killOnSessionLoss: world.profile.families.contains(.operators) && host.index == 1,
            startLimit: timing.ttl * 2)
    }

    /// All that it wanted done is done.
    private func turned() {
        session.judgeWords()
        guard let (ending, wake) = running?.loop.outlook(at: now) else { return }
        if let ending {
            world.trace { "\(self.name): ends, \(ending)" }
            if let child, child.isAlive { world.judge.blame("\(name) ends while \(child.name) is alive") }
            return end(byFault: false)
        }
        scheduleWake(max(wake, now))
    }

    private func scheduleWake(_ next: Instant) {
        guard next.nanoseconds != .max else { return }
        // poll(2) has whole milliseconds, rounded up.
        let wanted = max(host.time(of: next), world.now)
        let lateness = world.random.time(0, millisecond) + world.random.time(0, host.starvation(at: wanted))
        let due = max(host.time(of: next) + lateness, world.now + millisecond)
        // One that comes earlier will look again.
        if let wake, wake <= due { return }
        wake = due
        world.set(wakeBell, at: due)
    }

    /// Its poll(2) is over.
    func ring(_ bell: Bell) {
        wake = nil
        turn()
    }

    /// Hands an event to the machine, as the loop's port wants it.
    func handle(_ event: Event, with machine: inout LeaseMachine, at now: Instant) -> [Action] {
        note(event, at: now)
        let actions = sabotage?.handle(event, with: &machine, at: now) ?? machine.handle(event, at: now)
        role = machine.role
        return actions
    }

    private func note(_ event: Event, at now: Instant) {
        switch event {
        case .reply(_, .observed(let seen)):
            guard let record = seen.record else { return }
            sights = sights.filter { now.since($0.value.at) < $0.value.ttl }
            sights[record.epoch] = (max(sights[record.epoch]?.ttl ?? .zero, record.ttl), now)
        case .sessionOpened: sights = sights.mapValues { ($0.ttl, now) }
        default: break
        }
    }

    // MARK: Effects

    /// The loop wants this done. It may be stalled just before it, and then all that follows is held up, too.
    func act(_ effect: Effect) {
        guard state == .running, !isStalledNow() else { return held.append(effect) }
        carryOut(effect)
    }

    private func isStalledNow() -> Bool {
        guard world.stalls > 0, world.random.chance(world.stalls) else { return false }
        world.felt(.keepers)
        state = .stalled
        world.judge.look(at: self)
        world.after(world.random.time(0, ttl / 3)) { [self] in
            guard state == .stalled else { return }
            state = .running
            world.judge.look(at: self)
            goOn()
        }
        return true
    }

    /// Where it was stalled or stopped.
    private func goOn() {
        guard isRunning else { return }
        while !held.isEmpty {
            guard !isStalledNow() else { return }
            carryOut(held.removeFirst())
            guard isRunning else { return }
        }
        if running?.loop.outlook(at: now).ending == nil { turn() } else { turned() }
    }

    private func carryOut(_ effect: Effect) {
        switch effect {
        case .open: session.opened()
        case .close(let byFault): session.closed(byFault: byFault)
        case .ask(let statement):
            world.trace { "\(self.name): \(self.short(statement))" }
            connection?.ask(statement)
        case .order(let order): guardEnd.deliver(order)
        case .killGuard:
            world.trace { "\(self.name): kills its guard" }
            guardian.die()
        case .report(let notice):
            world.trace { "\(self.name): \(self.short(notice))" }
            world.judge.heard(notice, from: self)
        }
    }

    // MARK: Faults

    /// SIGSTOP.
    func stop() {
        guard state != .dead else { return }
        state = .stopped
        world.judge.look(at: self)
    }

    /// SIGCONT, or the machine is awake again.
    func resume() {
        guard state == .stopped || state == .hung || state == .running || state == .stalled else { return }
        if state == .stopped { state = .running }
        world.judge.look(at: self)
        guardEnd.sweepAgain()
        goOn()
    }

    /// The loop hangs in a call; the watchdog ends the process some 1.2 TTL later.
    func hang() {
        guard state == .running else { return }
        state = .hung
        world.judge.look(at: self)
        world.at(host.time(of: now + timing.ttl * 6 / 5)) { [self] in
            if state == .hung { die() }
        }
    }

    /// SIGKILL, or a crash.
    func die() {
        guard state != .dead else { return }
        world.trace { "\(self.name): keeper dies" }
        end(byFault: true)
        if host.isContainer { guardian.tree?.die() }
    }

    private func end(byFault: Bool) {
        state = .dead
        session.closed(byFault: byFault)
        if host.isContainer { guardian.vanish() }
        guardian.keeperEnded()
        world.judge.look(at: self)
        world.keeperEnded(self)
    }

    /// Power loss: everything at once, nobody says good-bye.
    func vanish() {
        guard state != .dead else { return guardian.vanishWithTree() }
        world.trace { "\(self.name): power loss" }
        state = .dead
        session.vanish()
        guardian.vanishWithTree()
        world.keeperEnded(self)
    }
}

extension KeeperLoop {
    /// Why it ends, if it does, and when it wants to turn again. Mutating, as reading it through a class would copy all of it.
    fileprivate mutating func outlook(at now: Instant) -> (ending: Exit?, wake: Instant) {
        // Somebody has to see when there is room in the channel again.
        (ending, guardLink.isWaitingForRoom ? min(wake(at: now), now + .milliseconds(1)) : wake(at: now))
    }
}
