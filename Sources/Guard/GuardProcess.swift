// The keeper's handle of its guard: forks it, sends it orders, reads its answers, and kills it if it must (R12).
// Nothing here blocks.

import CLinux
import Clock
import Glibc
import Orders

/// The guard, as its keeper sees it.
public struct GuardProcess: Sendable {
    /// The guard's pid. It is the keeper's child: whoever reaps the keeper's children (`Tree.reap`) learns of its end.
    public let pid: pid_t
    /// The keeper's end of the channel: readable when an answer waits or the guard is gone. For poll(2); close-on-exec.
    public let channel: Int32
    /// Its `children` file and its pidfd, or -1.
    private let children: Int32
    private let descriptor: Int32

    /// What `receive` found.
    public enum Received: Equatable, Sendable {
        /// No answer waits.
        case nothing
        /// The next answer.
        case answer(Answer)
        /// The guard has ended, or is about to.
        case closed
        /// Bytes that are not an answer: the guard cannot be trusted any more.
        case nonsense
    }

    /// Makes the guard: a child of this process that runs the guard's loop and never returns from here. Must be the
    /// first statement of main, while there is one thread and nothing else is open. Also makes this process a
    /// subreaper, so that it inherits the tree when the guard dies. Also sets SIGCHLD to its default: if it were
    /// inherited as ignored, no exit would ever be reported.
    /// - Returns: in the keeper, the guard; nil with errno if there could be none.
    public static func fork() -> GuardProcess? {
        guard occupyStandardStreams(), clinux_set_child_subreaper() == 0, clinux_default_signal(SIGCHLD) == 0,
            let (keeperEnd, guardEnd) = Channel.pair()
        else { return nil }
        var gate: [Int32] = [-1, -1]
        guard clinux_pipe(&gate, 0) == 0 else { return nil }
        // Blocked before the fork, so that no signal can end the guard before it has blocked them itself.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        guard sigprocmask(SIG_SETMASK, &all, &before) == 0 else { return nil }
        let pid = clinux_fork()
        if pid == 0 {
            Glibc.close(gate[1])
            guardMain(channel: guardEnd, gate: gate[0])
        }
        let number = errno
        sigprocmask(SIG_SETMASK, &before, nil)
        Glibc.close(guardEnd)
        Glibc.close(gate[0])
        defer { Glibc.close(gate[1]) }
        guard pid > 0 else {
            Glibc.close(keeperEnd)
            errno = number
            return nil
        }
        // While the guard still waits at the gate: later its files cannot be opened any more (`hidepid`), not even by
        // the keeper.
        let guardian = GuardProcess(
            pid: pid, channel: keeperEnd, children: childrenFile(of: pid),
            descriptor: clinux_pidfd_open(pid))
        // The child runs as the same user. It must not read the password out of our memory or environment (ptrace(2),
        // proc(5)), nor take our end of the channel with pidfd_getfd(2).
        _ = clinux_set_dumpable(0)
        return guardian
    }

    /// Opens the file and reads it once. The kernel makes its buffer for such a file at the first read, and later it
    /// may have no memory for it.
    private static func childrenFile(of pid: pid_t) -> Int32 {
        let file = ProcessFiles().children(of: pid, thread: pid)
        var list = PidList()
        list.begin(file)
        _ = list.next()
        return file
    }

    /// If one of them were closed, the next file opened would become the child's standard input or output.
    private static func occupyStandardStreams() -> Bool {
        while true {
            let file = open("/dev/null", O_RDWR)
            guard file >= 0 else { return false }
            if file > STDERR_FILENO {
                Glibc.close(file)
                return true
            }
        }
    }

    /// Sends an order without waiting.
    /// - Returns: false if it could not be delivered: the guard does not read, is gone, or the order does not fit
    ///   (`Wire.limit`, an environment string that is no `NAME=value`). Then the guard has none of it.
    public func send(_ order: Order) -> Bool {
        guard let bytes = Wire.encode(order) else { return false }
        return Channel.send(bytes, to: channel) == .sent
    }

    /// The next answer, without waiting. To be repeated until `.nothing`.
    public func receive() -> Received {
        var buffer = [UInt8](repeating: 0, count: 1024)
        switch Channel.receive(from: channel, into: &buffer) {
        case .nothing: return .nothing
        case .closed: return .closed
        case .tooLong: return .nonsense
        case .bytes(let count): return Wire.decodeAnswer(buffer.prefix(count)).map { .answer($0) } ?? .nonsense
        }
    }

    /// Sends SIGKILL to the guard (R12). The kernel then kills the command, and this process inherits the rest of the
    /// tree: sweep it with `Tree`. Only before the guard has been reaped.
    /// - Returns: whether SIGKILL is under way. Then the guard makes no process and reaps none any more, also if it
    ///   is traced, frozen or in state D and does not die for long: `Tree.sweep(below:)` can kill what is below it.
    @discardableResult
    public func kill() -> Bool { Glibc.kill(pid, SIGKILL) == 0 }

    /// Whether it has ended, reaped or not. A traced guard cannot be reaped before its tracer has let go, but its
    /// tree has already fallen to this process.
    public var hasEnded: Bool {
        descriptor >= 0 ? Tree.hasEnded(descriptor) : ProcessFiles().stat(of: pid)?.isDead ?? false
    }

    /// What `Tree` needs to kill what is below the guard once `kill` has returned true.
    public var condemned: Tree.Condemned { Tree.Condemned(pid: pid, children: children, descriptor: descriptor) }

    /// Removes the control group that a guard which was killed could not remove. Only once its tree is dead.
    public func removeCgroups() { Cgroup.removeAll(of: pid) }

    /// Closes the channel. To a living guard that is the keeper's end: it kills its tree and exits.
    public func close() {
        Glibc.close(channel)
        if children >= 0 { Glibc.close(children) }
        if descriptor >= 0 { Glibc.close(descriptor) }
    }
}
