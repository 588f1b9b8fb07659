// The keeper's loop around the real lease machine: what it hears waits in queues, the clock is read after news has arrived
// and before anything is sent, actions are carried out in order. It can be stopped, stalled between two actions, hang or die.

import Clock

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

    unowned(unsafe) let world: World
    let host: Host
    let name: String
    let identity: Identity
    let timing: Timing
    let isCalm: Bool
    let startedAt: Time
    var machine: LeaseMachine
    private(set) var state = State.running
    var hands = Hands.off
    private(set) lazy var guardian = ModelGuard(
        owner: self, stage: world, host: host, flaw: world.twin.flatMap { GuardFlaw(rawValue: $0.rawValue) })
    /// The last one started.
    var child: Child?
    var pipe = Pipe()
    let guardBell = Bell()
    let answerBell = Bell()
    private let wakeBell = Bell()
    private(set) var connection: Connection?
    private var fromGuard: [Event] = []
    private var signals: [Event] = []
    private var fromDatabase: [Event] = []
    private var pending: [Action] = []
    /// How many of them are carried out.
    private var done = 0
    private var isSweeping = false
    private var wake: Time?
    private var isInside = false
    /// R3: the leaderships it was shown, each until it has been in touch for that leadership's TTL without seeing it again.
    private var sights: [Epoch: (ttl: Duration, at: Instant)] = [:]
    /// The longest TTL among them, or its own: what an intact machine knows, whatever this one remembers.
    var longestKnown: Duration { sights.values.reduce(timing.ttl) { max($0, $1.ttl) } }

    var ttl: Time { timing.ttl.nanoseconds }
    var isRunning: Bool { state == .running && !host.isSuspended }
    /// Whether it can act on its own, now or a moment later.
    var canAct: Bool { state == .running || state == .stalled }

    init(world: World, host: Host, number: Int, timing: Timing, once: Bool) {
        self.world = world
        self.host = host
        self.timing = timing
        name = "\(host.index).\(number)"
        isCalm = world.profile.isCalm
        startedAt = world.now
        identity = Identity(lease: "l", node: "n\(host.index)", instance: InstanceID("i\(host.index).\(number)"))
        let restarts = RestartPolicy(
            maxRestarts: 3, window: timing.ttl * 10, cooldown: timing.ttl * 2, firstWait: timing.ttl / 10,
            longestWait: timing.ttl)
        machine = LeaseMachine(
            settings: LeaseMachine.Settings(
                identity: identity, timing: timing, restarts: restarts, grace: timing.ttl * 3 / 2, once: once,
                killOnSessionLoss: world.profile.families.contains(.operators) && host.index == 1,
                startLimit: timing.ttl * 2),
            at: host.clock(at: world.now))
        for bell in [guardBell, answerBell, wakeBell] { bell.owner = self }
        world.after(0) { [self] in run() }
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
        machine = other.machine
        sights = other.sights
        hands = other.hands
        guardian = ModelGuard(copying: other.guardian, owner: self, host: host) { [self] guardian in
            let copied = other.child.map { Child(copying: $0, keeper: self, guardian: guardian) }
            child = copied
            return copied
        }
        if let session = machine.link.session {
            let connection = Connection(session, of: self)
            self.connection = connection
            world.connections.append(connection)
        }
        for bell in [guardBell, answerBell, wakeBell] { bell.owner = self }
    }

    /// The world is over.
    func forget() {
        child = nil
        connection = nil
        guardian.forget()
    }

    /// A copy goes on.
    func begin() { world.after(0) { [self] in run() } }

    /// It waits with an idle session and a guard that has answered, and nothing is under way between them.
    var isAtRest: Bool {
        guard isWaiting, !host.isSuspended, guardian.isAtRest, pipe.isEmpty, machine.guardian.hasAnswered,
            case .idle = machine.link, case .running = leadership?.tree
        else { return false }
        return true
    }

    // MARK: News

    func hear(_ event: Event, through connection: Connection) {
        guard self.connection === connection, state != .dead else { return }
        if case .sessionLost = event { self.connection = nil }
        if isWaiting, !isStarved { return run(event) }
        fromDatabase.append(event)
        runLater()
    }

    func hear(_ event: Event) {
        guard state != .dead else { return }
        if isWaiting, !isStarved { return run(event) }
        fromGuard.append(event)
        runLater()
    }

    func signal(_ event: Event) {
        guard state != .dead else { return }
        if isWaiting, !isStarved { return run(event) }
        signals.append(event)
        runLater()
    }

    private var isStarved: Bool { host.starvedSince != nil }

    /// As soon as it gets the processor.
    private func runLater() {
        guard isStarved else { return run() }
        world.after(world.random.time(0, host.starvation(at: world.now))) { [self] in run() }
    }

    // MARK: The loop

    /// In its poll(2): all that was heard before is done.
    private var isWaiting: Bool {
        !isInside && isRunning && done == pending.count && fromGuard.isEmpty && signals.isEmpty && fromDatabase.isEmpty
    }

    private func nextEvent() -> Event? {
        if !fromGuard.isEmpty { return fromGuard.removeFirst() }
        if !signals.isEmpty { return signals.removeFirst() }
        if !fromDatabase.isEmpty { return fromDatabase.removeFirst() }
        return nil
    }

    func run() { run(nil) }

    /// Turns until nothing is left to do, beginning with that event, which woke it.
    private func run(_ first: Event?) {
        guard isRunning, !isInside else { return }
        isInside = true
        defer { isInside = false }
        var hasTicked = false
        if let first {
            hasTicked = true
            feed(first)
        }
        while state == .running {
            if done < pending.count {
                if world.stalls > 0, world.random.chance(world.stalls) {
                    world.felt(.keepers)
                    return stall()
                }
                let action = pending[done]
                done += 1
                if done == pending.count {
                    pending.removeAll(keepingCapacity: true)
                    done = 0
                }
                carryOut(action)
            } else if let event = nextEvent() {
                // It does all that is due, as a tick would.
                hasTicked = true
                feed(event)
            } else if !hasTicked {
                hasTicked = true
                feed(.tick)
            } else {
                break
            }
        }
        if state == .running { scheduleWake() }
    }

    private func stall() {
        state = .stalled
        world.judge.look(at: self)
        world.after(world.random.time(0, ttl / 3)) { [self] in
            guard state == .stalled else { return }
            state = .running
            world.judge.look(at: self)
            run()
        }
    }

    private func scheduleWake() {
        // What a twin has done to the machine may be due at once.
        let next = max(machine.wakeInPlace(), host.clock(at: world.now))
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

    func ring(_ bell: Bell) {
        if bell === answerBell {
            hear(.guardAnswered(pipe.toKeeper.receive(through: world, bell)))
        } else if bell === guardBell {
            let (order, sentAt) = pipe.toGuard.receive(through: world, bell)
            guardian.receive(.order(order), sentAt: sentAt)
        } else {
            // The loop's poll(2) is over.
            wake = nil
            run()
        }
    }

    private func feed(_ event: Event) {
        if case .reply(_, .observed(let seen)) = event, let record = seen.record {
            let now = host.clock(at: world.now)
            sights = sights.filter { now.since($0.value.at) < $0.value.ttl }
            sights[record.epoch] = (max(sights[record.epoch]?.ttl ?? .zero, record.ttl), now)
        }
        if case .sessionOpened = event {
            let now = host.clock(at: world.now)
            sights = sights.mapValues { ($0.ttl, now) }
        }
        let now = host.clock(at: world.now)
        guard world.twin != nil else {
            return machine.handle(event, at: now, appendingTo: &pending)
        }
        let before = TwinMemory(self)
        let broken = rewritten(event)
        var actions = machine.handle(broken, at: now)
        rewrite(&actions, after: broken, before: before, at: now)
        pending += actions
    }

    private func carryOut(_ action: Action) {
        switch action {
        case .openSession(let id):
            connection?.close(byFault: true)
            let opened = Connection(id, of: self)
            connection = opened
            world.connections.append(opened)
            opened.connect()
        case .closeSession(let id):
            guard let connection, connection.id == id else { return }
            connection.close(byFault: false)
            self.connection = nil
        case .send(let id, let statement):
            world.trace { "\(self.name): \(self.short(statement))" }
            if let connection, connection.id == id { connection.ask(statement) }
        case .start(let start, let deadline, let epoch):
            deliver(.start(start, deadline: deadline, commandIndex: 1, environment: ["\(epoch)"]))
        case .order(let order): deliver(order)
        case .killGuard:
            world.trace { "\(self.name): kills its guard" }
            guardian.die()
        case .killBelowGuard: sweepBelowGuardLater()
        case .killDescendants:
            isSweeping = true
            sweepLater()
        case .report(let notice, _):
            world.trace { "\(self.name): \(self.short(notice))" }
            world.judge.heard(notice, from: self)
        case .exit(let exit):
            world.trace { "\(self.name): ends, \(exit)" }
            if let child, child.isAlive { world.judge.blame("\(name) ends while \(child.name) is alive") }
            end(byFault: false)
        }
    }

    // MARK: The heritage of a dead guard

    private func sweepLater() {
        let takes = killTime()
        world.after(takes) { [self] in
            guard isSweeping, isRunning else { return }
            isSweeping = false
            guardian.tree?.die()
            hear(.descendantsGone)
        }
    }

    /// The guard is condemned: what is below it, or was, is killed without waiting for its end.
    private func sweepBelowGuardLater() {
        world.after(killTime()) { [self] in
            guard state != .dead else { return }
            guard isRunning else { return world.after(millisecond) { [self] in sweepBelowGuardLater() } }
            guardian.tree?.die()
            // The end of one that dies is told otherwise.
            if guardian.state == .undead { hear(.nothingAliveBelowGuard) }
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
        guard isRunning else { return }
        if isSweeping { sweepLater() }
        run()
    }

    /// The loop hangs in a call; the watchdog ends the process some 1.2 TTL later.
    func hang() {
        guard state == .running else { return }
        state = .hung
        world.judge.look(at: self)
        world.at(host.time(of: host.clock(at: world.now) + timing.ttl * 6 / 5)) { [self] in
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
        connection?.close(byFault: byFault)
        connection = nil
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
        connection?.vanish()
        connection = nil
        guardian.vanishWithTree()
        world.keeperEnded(self)
    }
}

extension LeaseMachine {
    /// `nextWake` without a copy of the whole machine, which reading it through a class costs.
    fileprivate mutating func wakeInPlace() -> Instant { nextWake }
}
