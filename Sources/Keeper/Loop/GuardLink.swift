// The keeper's guard: orders out, answers in, and when the guard is dead or condemned, its heritage: the keeper kills
// whatever of the tree fell to it, or is below a guard that does not die. It decides nothing about the lease.

import Clock
import Guard
import Lease
import Orders

/// Carries the machine's orders to the guard and the answers back.
struct GuardLink<Port: GuardPort> {
    private enum State {
        case alive
        /// Its channel is closed or it was told to die; not reaped yet.
        case dying
        case dead
    }

    var port: Port
    private let commandIndex: Int
    private var state = State.alive
    /// What did not fit into the channel, to be delivered as soon as the guard reads again.
    private var waiting = WaitingOrders()
    private var sweeping = Sweeping.nothing
    /// SIGKILL for the guard is under way: it makes no process any more.
    private var isCondemned = false
    /// It is dead and cannot be reaped yet, because somebody traces it.
    private var isUnreaped = false
    /// How long the loop may wait before the next sweep; nil where nothing is to be swept.
    private var sweepWait: Duration?

    /// What the keeper has to kill itself.
    private enum Sweeping {
        case nothing
        case belowGuard(Naming.Schedule)
        case descendants(Naming.Schedule)
    }

    /// How long the loop waits between two sweeps, and for a guard that is about to be reaped.
    private static var sweepPause: Duration { .milliseconds(10) }

    /// `commandIndex`: where the command begins in the program's own arguments.
    init(_ port: Port, commandIndex: Int, handicap: Handicap) {
        self.port = port
        self.commandIndex = commandIndex
        deliver(.handicap(handicap))
    }

    /// Whether the guard may still say something.
    var isAlive: Bool { if case .alive = state { true } else { false } }

    /// A guard on its way out: its SIGCHLD may have come before anybody listened.
    var isDying: Bool { if case .dying = state { true } else { false } }

    /// It is reaped, or as good as reaped.
    var isDead: Bool { if case .dead = state { true } else { false } }

    /// Whether to look out for room in the channel.
    var isWaitingForRoom: Bool { !waiting.isEmpty }

    /// How long the loop may wait; nil: as long as it likes.
    var pause: Duration? {
        guard isDying else { return sweepWait }
        return min(sweepWait ?? Self.sweepPause, Self.sweepPause)
    }

    /// Delivers an order. A guard that does not take it is either gone, which will be seen, or does not read: then the
    /// order waits. So the answer to a question comes as soon as the guard reads again.
    mutating func order(_ order: Order) {
        guard isAlive else { return }
        deliver(order)
    }

    /// Starts the command. A start does not wait: the machine is told that the guard did not take it.
    mutating func start(_ id: StartID, deadline: Instant, environment: [String]) -> [Event] {
        guard isAlive else { return [] }
        waiting.removeAll()
        let order = Order.start(
            id, deadline: deadline, commandIndex: commandIndex, environment: environment)
        return port.send(order) ? [] : [.startUndelivered(id)]
    }

    private mutating func deliver(_ order: Order) {
        if waiting.isEmpty, port.send(order) { return }
        waiting.add(order)
    }

    /// Delivers what waits, as far as there is room.
    mutating func deliverWaiting() {
        guard isAlive else { return waiting.removeAll() }
        waiting.deliver { [port] in port.send($0) }
    }

    mutating func killGuard() {
        guard isAlive else { return }
        isCondemned = port.kill()
        state = .dying
    }

    mutating func startSweepingBelowGuard(at now: Instant) { begin(.belowGuard(Naming.Schedule(from: now))) }

    mutating func startSweeping(at now: Instant) { begin(.descendants(Naming.Schedule(from: now))) }

    private mutating func begin(_ sweeping: Sweeping) {
        self.sweeping = sweeping
        sweepWait = .zero
    }

    /// Whatever the guard said.
    mutating func receive() -> [Event] {
        var events: [Event] = []
        while isAlive {
            switch port.receive() {
            case .nothing: return events
            case .answer(let answer): events.append(.guardAnswered(answer))
            case .closed, .nonsense:
                killGuard()
                events.append(.guardFailed)
            }
        }
        return events
    }

    /// After SIGCHLD: reaps whatever ended below the keeper.
    mutating func reap() -> [Event] {
        // A sweep reaps by itself, at its end: not in the middle, which would make it begin again.
        if case .descendants = sweeping { return [] }
        let isReaped = port.reap()
        if !isReaped, isDying, port.hasEnded { isUnreaped = true }
        return guardEnded(isReaped || isUnreaped)
    }

    /// Kills what is left below the keeper, or below its guard.
    mutating func sweep(at now: Instant) -> [Event] {
        switch sweeping {
        case .nothing: return []
        case .belowGuard(let schedule): return sweepBelowGuard(schedule, at: now)
        case .descendants(let schedule): return sweepDescendants(schedule, at: now)
        }
    }

    private mutating func sweepBelowGuard(_ schedule: Naming.Schedule, at now: Instant) -> [Event] {
        guard isDying else { return [] }
        // Not before: what is said of the tree below it holds for a guard that makes no process any more.
        guard isCondemned else {
            isCondemned = port.kill()
            return []
        }
        // A debugger may keep a dead guard from being reaped. Its children are ours then, and its end is told to
        // nobody.
        let (progress, isReaped) =
            port.hasEnded ? port.sweep(sparingGuard: true) : (port.sweepBelowGuard(), false)
        if isReaped { return guardEnded(true) }
        guard progress == .empty else { return survivors(schedule, after: progress, at: now) { .belowGuard($0) } }
        end()
        return [.nothingAliveBelowGuard]
    }

    private mutating func sweepDescendants(_ schedule: Naming.Schedule, at now: Instant) -> [Event] {
        let (progress, isReaped) = port.sweep(sparingGuard: isUnreaped)
        if isReaped { isUnreaped = false }
        let events = guardEnded(isReaped)
        guard progress == .empty else {
            return events + survivors(schedule, after: progress, at: now) { .descendants($0) }
        }
        end()
        return events + [.descendantsGone]
    }

    private mutating func end() {
        sweeping = .nothing
        sweepWait = nil
        port.removeCgroups()
    }

    /// Names those that SIGKILL does not end, now and then.
    private mutating func survivors(
        _ schedule: Naming.Schedule, after progress: Tree.Progress, at now: Instant,
        _ next: (Naming.Schedule) -> Sweeping
    ) -> [Event] {
        sweepWait = progress == .unfinished ? .zero : Self.sweepPause
        guard progress != .unfinished else { return [] }
        var schedule = schedule
        let isDue = schedule.isDue(at: now)
        sweeping = next(schedule)
        guard isDue, !port.remains.isEmpty else { return [] }
        return [.survivors(port.remains)]
    }

    private mutating func guardEnded(_ hasEnded: Bool) -> [Event] {
        guard hasEnded, !isDead else { return [] }
        state = .dead
        port.close()
        return [.guardGone]
    }
}
