// The keeper's guard: orders out, answers in, and when the guard is dead or condemned, its heritage: the keeper kills
// whatever of the tree fell to it, or is below a guard that does not die. It decides nothing about the lease.

import CLinux
import Clock
import Glibc
import Guard
import Lease
import Orders

/// Carries the machine's orders to the guard and the answers back.
struct GuardLink: ~Copyable {
    private enum State {
        case alive
        /// Its channel is closed or it was told to die; not reaped yet.
        case dying
        case dead
    }

    private let process: GuardProcess
    private let commandIndex: Int
    private var state = State.alive
    private var tree = Tree()
    /// What did not fit into the channel, to be delivered as soon as the guard reads again.
    private var waiting = WaitingOrders()
    private var sweeping = Sweeping.nothing
    /// SIGKILL for the guard is under way: it makes no process any more.
    private var isCondemned = false
    /// It is dead and cannot be reaped yet, because somebody traces it.
    private var isUnreaped = false

    /// What the keeper has to kill itself.
    private enum Sweeping {
        case nothing
        case belowGuard(Naming.Schedule)
        case descendants(Naming.Schedule)
    }

    /// How long the loop waits between two sweeps, and for a guard that is about to be reaped.
    static let sweepPause = Duration.milliseconds(10)

    /// How long the loop may wait before the next sweep; nil where nothing is to be swept.
    private(set) var pause: Duration?

    /// `commandIndex`: where the command begins in the program's own arguments.
    init(process: GuardProcess, commandIndex: Int, handicap: Handicap) {
        self.process = process
        self.commandIndex = commandIndex
        deliver(.handicap(handicap))
    }

    /// What poll(2) shall watch; -1 when there is nothing more to hear.
    var descriptor: Int32 {
        switch state {
        case .alive: process.channel
        case .dying, .dead: -1
        }
    }

    /// Whether poll(2) shall also say when the channel has room.
    var isWaitingForRoom: Bool { !waiting.isEmpty }

    /// Delivers an order. A guard that does not take it is either gone, which will be seen, or does not read: then the order
    /// waits. So the answer to a question comes as soon as the guard reads again.
    mutating func order(_ order: Order) {
        guard case .alive = state else { return }
        deliver(order)
    }

    /// Starts the command. A start does not wait: the machine is told that the guard did not take it.
    mutating func start(_ id: StartID, deadline: Instant, environment: [String]) -> [Event] {
        guard case .alive = state else { return [] }
        waiting.removeAll()
        let order = Order.start(
            id, deadline: deadline, commandIndex: commandIndex, environment: environment)
        return process.send(order) ? [] : [.startUndelivered(id)]
    }

    private mutating func deliver(_ order: Order) {
        if waiting.isEmpty, process.send(order) { return }
        waiting.add(order)
    }

    /// Delivers what waits, as far as there is room.
    mutating func deliverWaiting() {
        guard case .alive = state else { return waiting.removeAll() }
        waiting.deliver { process.send($0) }
    }

    mutating func killGuard() {
        guard case .alive = state else { return }
        isCondemned = process.kill()
        state = .dying
    }

    mutating func startSweepingBelowGuard() { begin(.belowGuard(Naming.Schedule(from: BootClock.now()))) }

    mutating func startSweeping() { begin(.descendants(Naming.Schedule(from: BootClock.now()))) }

    private mutating func begin(_ sweeping: Sweeping) {
        self.sweeping = sweeping
        pause = .zero
    }

    /// Whatever the guard said.
    mutating func receive() -> [Event] {
        var events: [Event] = []
        while case .alive = state {
            switch process.receive() {
            case .nothing: return events
            case .answer(let answer): events.append(.guardAnswered(answer))
            case .closed, .nonsense:
                killGuard()
                events.append(.guardFailed)
            }
        }
        return events
    }

    /// A guard on its way out: its SIGCHLD may have come before anybody listened.
    var isDying: Bool {
        switch state {
        case .dying: true
        case .alive, .dead: false
        }
    }

    /// After SIGCHLD: reaps whatever ended below the keeper.
    mutating func reap() -> [Event] {
        // A sweep reaps by itself, at its end: not in the middle, which would make it begin again.
        if case .descendants = sweeping { return [] }
        var gone = false
        _ = tree.reap { pid, _ in if pid == process.pid { gone = true } }
        if !gone, case .dying = state, process.hasEnded { isUnreaped = true }
        return guardEnded(gone || isUnreaped)
    }

    /// Kills what is left below the keeper, or below its guard.
    mutating func sweep() -> [Event] {
        switch sweeping {
        case .nothing: return []
        case .belowGuard(let schedule): return sweepBelowGuard(schedule)
        case .descendants(let schedule): return sweepDescendants(schedule)
        }
    }

    private mutating func sweepBelowGuard(_ schedule: Naming.Schedule) -> [Event] {
        guard case .dying = state else { return [] }
        // Not before: what is said of the tree below it holds for a guard that makes no process any more.
        guard isCondemned else {
            isCondemned = process.kill()
            return []
        }
        // A debugger may keep a dead guard from being reaped. Its children are ours then, and its end is told to nobody.
        var gone = false
        let progress =
            process.condemned.hasEnded
            ? tree.sweep(excluding: process.pid) { pid, _ in if pid == process.pid { gone = true } }
            : tree.sweep(below: process.condemned)
        if gone { return guardEnded(gone) }
        guard progress == .empty else { return survivors(schedule, after: progress) { .belowGuard($0) } }
        end()
        process.removeCgroups()
        return [.nothingAliveBelowGuard]
    }

    private mutating func sweepDescendants(_ schedule: Naming.Schedule) -> [Event] {
        var gone = false
        let progress = tree.sweep(excluding: isUnreaped ? process.pid : nil) { pid, _ in
            if pid == process.pid { gone = true }
        }
        if gone { isUnreaped = false }
        let events = guardEnded(gone)
        guard progress == .empty else { return events + survivors(schedule, after: progress) { .descendants($0) } }
        end()
        process.removeCgroups()
        return events + [.descendantsGone]
    }

    private mutating func end() {
        sweeping = .nothing
        pause = nil
    }

    /// Names those that SIGKILL does not end, now and then.
    private mutating func survivors(
        _ schedule: Naming.Schedule, after progress: Tree.Progress, _ next: (Naming.Schedule) -> Sweeping
    ) -> [Event] {
        pause = progress == .unfinished ? .zero : Self.sweepPause
        guard progress != .unfinished else { return [] }
        var schedule = schedule
        let isDue = schedule.isDue(at: BootClock.now())
        sweeping = next(schedule)
        guard isDue, !tree.remains.isEmpty else { return [] }
        return [.survivors(tree.remains)]
    }

    private mutating func guardEnded(_ gone: Bool) -> [Event] {
        guard gone else { return [] }
        if case .dead = state { return [] }
        state = .dead
        process.close()
        return [.guardGone]
    }

    /// Sends an idle guard home and waits a moment for it, so that nothing outlives the keeper.
    mutating func dismiss(waitingMilliseconds: Int32) {
        if case .dead = state { return }
        process.close()
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if !reap().isEmpty { return }
            poll(nil, 0, 5)
        }
    }
}
