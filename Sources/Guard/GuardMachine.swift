// What the guard decides, without a system call: events in, actions out. Guarantees (R1, R12): a child may live only
// while its deadline lies in the future. Nothing undoes a kill that has begun. `.empty` is sent only after the report
// that the kernel knows no child. An order that names another start than the current one is ignored.

import Clock
import Orders

struct GuardMachine {
    enum Action: Equatable {
        case say(Answer)
        /// Fork the child; the outcome is reported by `forked` or `forkFailed` before any other event.
        case fork(StartID, deadline: Instant, commandIndex: Int, environment: [String])
        /// Wake at that instant.
        case wake(at: Instant)
        case signal(pid: Int32, number: Int32)
        /// Kill every descendant, until `treeEmpty` can be reported.
        case kill
        /// End the guard: the keeper is gone, and so is the tree.
        case leave
    }

    struct Start: Equatable {
        var id: StartID
        var pid: Int32
        var deadline: Instant
    }

    /// What is known of the command's own process while its tree is killed.
    enum Command: Equatable {
        case unreaped(pid: Int32)
        case reaped
        /// Its exec failed, which was reported. So no exit is reported.
        case neverRan
    }

    enum Afterwards: Equatable { case stay, leave }

    enum State: Equatable {
        case idle
        case forking(StartID, deadline: Instant)
        /// Forked; exec not yet known to have succeeded.
        case starting(Start)
        case running(Start)
        case killing(StartID, Command, Afterwards)
        case left
    }

    private(set) var state = State.idle
    /// The lower priority of the next child.
    private(set) var handicap = Handicap()
    private var newest: StartID?

    /// The time is `now`. To be called at every wake, before anything else (R1).
    mutating func tick(now: Instant) -> [Action] {
        switch state {
        case .starting(let start) where start.deadline <= now, .running(let start) where start.deadline <= now:
            return kill(start, .deadline)
        default: return []
        }
    }

    /// The keeper's order, read at `now`.
    mutating func order(_ order: Order, now: Instant) -> [Action] {
        let due = tick(now: now)
        switch order {
        case .ping(let token): return due + [.say(.pong(token: token))]
        case .start(let id, let deadline, let index, let environment):
            return due + start(id, deadline, now: now, index, environment)
        case .extend(let id, let deadline, let token): return due + extend(id, deadline, token) + tick(now: now)
        case .signal(let id, let number):
            guard let start = current(id) else { return due }
            return due + [.signal(pid: start.pid, number: number)]
        case .kill(let id):
            guard let start = current(id) else { return due }
            return due + kill(start, .ordered)
        case .handicap(let handicap):
            self.handicap = handicap
            return due
        }
    }

    private mutating func start(
        _ id: StartID, _ deadline: Instant, now: Instant, _ index: Int, _ environment: [String]
    ) -> [Action] {
        guard case .idle = state else { return [.say(.notStarted(id, .treeAlive))] }
        if let newest, id <= newest { return [.say(.notStarted(id, .stale))] }
        newest = id
        guard deadline > now else {
            return [.say(.notStarted(id, .deadlinePassed)), .say(.empty(id))]
        }
        state = .forking(id, deadline: deadline)
        return [.fork(id, deadline: deadline, commandIndex: index, environment: environment)]
    }

    /// The keeper waits for the answer, whether there is something to extend or not.
    private mutating func extend(_ id: StartID, _ deadline: Instant, _ token: UInt64) -> [Action] {
        guard var start = current(id) else { return [.say(.pong(token: token))] }
        // The new deadline may be earlier: the keeper takes back what it granted before it knew how late the guard is
        // (R2).
        start.deadline = deadline
        if case .starting = state { state = .starting(start) } else { state = .running(start) }
        return [.wake(at: start.deadline), .say(.extended(id, deadline: start.deadline, token: token))]
    }

    /// The start that orders may act on: the named one, while its kill has not begun.
    private func current(_ id: StartID) -> Start? {
        switch state {
        case .starting(let start) where start.id == id: start
        case .running(let start) where start.id == id: start
        default: nil
        }
    }

    /// Until when the child may live, while its kill has not begun.
    var deadline: Instant? {
        switch state {
        case .forking(_, let deadline): deadline
        case .starting(let start), .running(let start): start.deadline
        case .idle, .killing, .left: nil
        }
    }

    /// The command's own process, while it is not reaped, so that its pid cannot be another process's.
    var commandPid: Int32? {
        switch state {
        case .starting(let start), .running(let start): start.pid
        case .killing(_, .unreaped(let pid), _): pid
        default: nil
        }
    }

    /// Whether there may be a child that its deadline would have to end.
    var hasChild: Bool {
        switch state {
        case .starting, .running: true
        case .idle, .forking, .killing, .left: false
        }
    }

    /// The command ran and ended by itself: what is killed now is what it left behind.
    var isAfterExit: Bool { if case .killing(_, .reaped, _) = state { true } else { false } }

    /// The child exists. Its exec is not yet certain.
    mutating func forked(pid: Int32) -> [Action] {
        guard case .forking(let id, let deadline) = state else { return [] }
        state = .starting(Start(id: id, pid: pid, deadline: deadline))
        return [.wake(at: deadline)]
    }

    /// There is no child.
    mutating func forkFailed(_ reason: NotStarted) -> [Action] {
        guard case .forking(let id, _) = state else { return [] }
        state = .idle
        return [.say(.notStarted(id, reason)), .say(.empty(id))]
    }

    /// The child's exec succeeded.
    mutating func executed() -> [Action] {
        guard case .starting(let start) = state else { return [] }
        state = .running(start)
        return [.say(.started(start.id, pid: start.pid))]
    }

    /// The child gave up before, or failed in, its exec, and is about to end.
    mutating func executionFailed(_ reason: NotStarted) -> [Action] {
        guard case .starting(let start) = state else { return [] }
        state = .killing(start.id, .neverRan, .stay)
        return [.say(.notStarted(start.id, reason)), .kill]
    }

    /// A child of the guard ended and is reaped. Any child may be reported. The command's own process is known by its
    /// pid, which could not be used again before this call.
    mutating func reaped(pid: Int32, status: Int32) -> [Action] {
        switch state {
        case .starting(let start) where start.pid == pid, .running(let start) where start.pid == pid:
            state = .killing(start.id, .reaped, .stay)
            return [
                .say(.killing(start.id, .childExited)), .say(.exited(start.id, ChildExit(waitStatus: status))), .kill,
            ]
        case .killing(let id, .unreaped(pid: pid), let afterwards):
            state = .killing(id, .reaped, afterwards)
            return [.say(.exited(id, ChildExit(waitStatus: status)))]
        default: return []
        }
    }

    /// The kernel knows no child of the guard (waitpid(2): ECHILD). Nothing else may be reported as this.
    /// - Parameter leftBehind: if the command ended by itself, how many processes that it left behind were killed,
    ///   and the first few of them.
    mutating func treeEmpty(leftBehind: (count: UInt32, processes: [SeenProcess]) = (0, [])) -> [Action] {
        guard case .killing(let id, _, let afterwards) = state else { return [] }
        let (count, processes) = leftBehind
        let last = count > 0 ? [Action.say(.leftBehind(id, count: count, processes))] : []
        switch afterwards {
        case .stay:
            state = .idle
            return last + [.say(.empty(id))]
        case .leave:
            state = .left
            return last + [.say(.empty(id)), .leave]
        }
    }

    /// The channel is closed: the keeper is dead, or has given up on the guard.
    mutating func keeperGone() -> [Action] { stop(.keeperGone) }

    /// The channel carried bytes that are not an order. Their sender cannot be trusted with a child.
    mutating func nonsense() -> [Action] { stop(.nonsense) }

    /// The timer for the deadline cannot be set. Without it no child may live (R1).
    mutating func timerFailed() -> [Action] {
        switch state {
        case .starting(let start), .running(let start): kill(start, .timerFailed)
        case .idle, .forking, .killing, .left: []
        }
    }

    /// What is left of the start whose tree is being killed, for people.
    mutating func survivors(_ processes: [SeenProcess]) -> [Action] {
        guard case .killing(let id, _, _) = state else { return [] }
        return [.say(.surviving(id, processes))]
    }

    private mutating func stop(_ cause: KillCause) -> [Action] {
        switch state {
        case .idle, .forking:
            state = .left
            return [.leave]
        case .starting(let start), .running(let start):
            return kill(start, cause, then: .leave)
        case .killing(let id, let command, _):
            state = .killing(id, command, .leave)
            return []
        case .left: return []
        }
    }

    private mutating func kill(_ start: Start, _ cause: KillCause, then: Afterwards = .stay) -> [Action] {
        state = .killing(start.id, .unreaped(pid: start.pid), then)
        return [.say(.killing(start.id, cause)), .kill]
    }
}
