// What the guard tells its keeper: about one start, which each such answer names (R12), and about itself. The reasons
// are here as well: why a command was not started, why a tree is killed, how a command ended.

import Clock

/// What the guard tells the keeper. For one start they come in this order:
/// (`.started` | `.notStarted`)?, `.killing`?, `.exited`?, `.empty`. Between the last two there may be `.surviving` and
/// `.leftBehind`.
public enum Answer: Hashable, Sendable {
    /// The guard is set up and takes orders. Said once, first.
    case ready
    /// How late the guard is and what it would have to kill. Said before each answer to a question (`.pong`,
    /// `.extended`); may be lost when the keeper does not read.
    case strained(Strain)
    /// The answer to a ping, or to an extension that found nothing to extend. May be lost when the keeper does not
    /// read.
    case pong(token: UInt64)
    /// The command runs: exec succeeded. (If the new process was killed by somebody before its exec, `.exited`
    /// follows.)
    case started(StartID, pid: Int32)
    /// The command does not run. `.empty` of the same start follows once nothing of it is alive, except after
    /// `.treeAlive` and `.stale`, which made no start.
    case notStarted(StartID, NotStarted)
    /// The deadline now in force, after an extension. May be lost when the keeper does not read.
    case extended(StartID, deadline: Instant, token: UInt64)
    /// The command's own process ended. What it left behind may still be alive. Also said of a process that was
    /// killed before its exec.
    case exited(StartID, ChildExit)
    /// Killing has begun. No order undoes it.
    case killing(StartID, KillCause)
    /// The command had ended by itself, and so many processes that it left behind were killed; the first few of them.
    /// For people.
    case leftBehind(StartID, count: UInt32, [SeenProcess])
    /// Some processes got SIGKILL a while ago and are still alive: the first few of them. Repeated while it lasts.
    /// For people.
    case surviving(StartID, [SeenProcess])
    /// Nothing this start ever began is alive: the kernel knows no child of the guard. The last word on a start.
    case empty(StartID)
}

/// Why a start did not come to a running command.
public enum NotStarted: Hashable, Sendable {
    /// execve(2) failed with this errno: ENOENT, EACCES, ...
    case cannotExecute(errno: Int32)
    /// No process could be made for it: pipe(2) or fork(2) failed with this errno, or the command index names no
    /// argument (EINVAL), or this process's `/proc` cannot be read (ENOTDIR), without which a tree cannot be killed.
    case cannotFork(errno: Int32)
    /// The deadline had passed before the command's exec (R1).
    case deadlinePassed
    /// An earlier start is not yet empty.
    case treeAlive
    /// The name is not larger than that of the last one started.
    case stale
}

/// Why the guard kills.
public enum KillCause: UInt8, Equatable, Sendable, CaseIterable {
    /// The deadline passed without an extension.
    case deadline = 1
    /// The keeper ordered it.
    case ordered
    /// The command ended; what it left behind is killed. `.exited` follows at once.
    case childExited
    /// The channel carried bytes that are not an order.
    case nonsense
    /// The keeper's end of the channel was closed. No keeper is left to read this.
    case keeperGone
    /// The timer that would wake the guard at the deadline cannot be set.
    case timerFailed
}

/// How the command itself ended.
public enum ChildExit: Hashable, Sendable {
    case code(Int32)
    case signal(Int32)

    /// A start that came to nothing counts as this exit (71: EX_OSERR).
    public static let failedStart = ChildExit.code(71)

    /// From a status of wait(2) of a process that has ended.
    public init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .code((waitStatus >> 8) & 0xff) : .signal(signal)
    }

    /// As wait(2) reports it.
    public var waitStatus: Int32 {
        switch self {
        case .code(let code): (code & 0xff) << 8
        case .signal(let number): number & 0x7f
        }
    }
}

/// A process of the tree, for people.
public struct SeenProcess: Hashable, Sendable {
    /// Its pid in the guard's namespace.
    public var pid: Int32
    /// The letter that proc_pid_stat(5) gives its state, `?` where it is hidden.
    public var state: UInt8
    /// The kernel's name for it, at most 15 bytes; empty where it is hidden.
    public var name: String

    public init(pid: Int32, state: UInt8, name: String) {
        self.pid = pid
        self.state = state
        self.name = name
    }
}

/// What a guard knows about how late it would be, and how much there would be to kill. What follows from it is
/// decided in Lease (R2).
public struct Strain: Hashable, Sendable {
    /// The most by which a timer of the guard fired late, since the report before the last.
    public var lateness: Duration
    /// Processes and threads in the guard's control group; 0 where that cannot be read.
    public var tasks: Int32
    /// The memory of their own, in bytes, that these hold; 0 where that cannot be read.
    public var memory: Int64
    /// Thousandths of a processor that the group may use: its limit, or else what the machine has; 0 where unknown.
    public var processors: Int32

    public init(
        lateness: Duration = .zero, tasks: Int32 = 0, memory: Int64 = 0, processors: Int32 = 0
    ) {
        self.lateness = lateness
        self.tasks = tasks
        self.memory = memory
        self.processors = processors
    }
}
