// What the keeper may order and what the guard answers (design rule R12). Every order names the start it is meant for and
// every answer the start it is about, so that a late one can never be taken for news of another. Wire.swift says how they
// travel.

import Clock

/// Names one start of the child. Each start takes a larger one than all before it; none is ever used twice (R12).
public struct Generation: Hashable, Comparable, Sendable {
    /// The number itself; it has no meaning beyond its order.
    public var rawValue: UInt64

    /// The generation of that number.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: Generation, right: Generation) -> Bool { left.rawValue < right.rawValue }
}

/// What the keeper tells the guard.
public enum Order: Equatable, Sendable {
    /// Are you there? Answered by `.pong` with the same token, also while killing.
    case ping(token: UInt64)
    /// Start the command and let it live until `deadline` (R1). The command is the part of this program's own arguments
    /// that begins at `commandIndex`; each of `environment` is a `NAME=value` that replaces an inherited one of that name.
    case start(Generation, deadline: Instant, commandIndex: Int, environment: [String])
    /// Let the child live until `deadline`, also if that is earlier than before. Ignored once killing.
    case extend(Generation, deadline: Instant)
    /// Send a signal to the command's own process, not to what it started. Ignored once killing.
    case signal(Generation, number: Int32)
    /// Kill the whole tree now. Nothing undoes it.
    case kill(Generation)
    /// What every child from now on is handicapped by. Said once, before the first start.
    case handicap(Handicap)
}

/// What the guard tells the keeper. For one start they come in this order:
/// (`.started` | `.notStarted`)?, `.killing`?, `.exited`?, `.empty`. Between the last two there may be `.surviving` and
/// `.leftBehind`.
public enum Answer: Equatable, Sendable {
    /// The guard is set up and takes orders. Said once, first.
    case ready
    /// How late the guard is and what it would have to kill. Said before each pong; may be lost when the keeper does not read.
    case strained(Strain)
    /// The answer to a ping. May be lost when the keeper does not read.
    case pong(token: UInt64)
    /// The command runs: exec succeeded. (If the new process was killed by somebody before its exec, `.exited` follows.)
    case started(Generation, pid: Int32)
    /// The command does not run. `.empty` of the same generation follows once nothing of this start is alive, except after
    /// `.treeAlive` and `.stale`, which made no start.
    case notStarted(Generation, NotStarted)
    /// The deadline now in force, after an extension. May be lost when the keeper does not read.
    case extended(Generation, deadline: Instant)
    /// The command's own process ended with this raw wait status (wait(2)). What it left behind may still be alive. Also
    /// said of a process that was killed before its exec.
    case exited(Generation, status: Int32)
    /// Killing has begun. No order undoes it.
    case killing(Generation, KillCause)
    /// The command had ended by itself, and so many processes that it left behind were killed; the first few of them. For
    /// people.
    case leftBehind(Generation, count: UInt32, [SeenProcess])
    /// Some were SIGKILLed long ago and are alive yet: the first few of them. Repeated while it lasts. For people.
    case surviving(Generation, [SeenProcess])
    /// Nothing this start ever began is alive: the kernel knows no child of the guard. The last word on a generation.
    case empty(Generation)
}

/// A process of the tree, for people.
public struct SeenProcess: Equatable, Sendable {
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

/// What a child gets less of than keeper and guard, so that these come first (R1).
public struct Handicap: Equatable, Sendable {
    /// Added to the nice value (nice(2)) that the sidecar was started with.
    public var nice: Int32
    /// Added to the oom_score_adj (proc_pid_oom_score_adj(5)) that the sidecar was started with.
    public var oomScore: Int32

    public init(nice: Int32 = 0, oomScore: Int32 = 0) {
        self.nice = nice
        self.oomScore = oomScore
    }
}

/// Why a start did not come to a running command.
public enum NotStarted: Equatable, Sendable {
    /// execve(2) failed with this errno: ENOENT, EACCES, ...
    case cannotExecute(Int32)
    /// No process could be made for it: pipe(2) or fork(2) failed with this errno, or the command index names no argument
    /// (EINVAL), or this process's `/proc` cannot be read (ENOTDIR), without which a tree cannot be killed.
    case cannotFork(Int32)
    /// The deadline had passed before the command's exec (R1).
    case deadlinePassed
    /// An earlier start is not yet empty.
    case treeAlive
    /// The generation is not larger than the last one started.
    case stale
}

/// Why the guard kills.
public enum KillCause: UInt8, Equatable, Sendable, CaseIterable {
    /// The deadline passed without an extension.
    case deadline = 1
    /// The keeper ordered it.
    case ordered
    /// The command ended; what it left behind is killed.
    case childExited
    /// The channel carried something that is no order.
    case nonsense
    /// The keeper's end of the channel was closed. Nobody is left to read this.
    case keeperGone
    /// The timer that would wake the guard at the deadline cannot be set.
    case timerFailed
}
