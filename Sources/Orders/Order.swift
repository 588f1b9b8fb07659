// What the keeper may order, and how it names a start (R12). Keeper, guard, the channel between them and the
// simulation use these same types, so nothing is translated. Every order names the start that it is meant for, so a
// late order can never hit another start.

import Clock

/// Names one start of the child. Each start takes a larger one than all before it; none is ever used twice (R12).
public struct StartID: Hashable, Comparable, Sendable {
    /// The number itself; it has no meaning beyond its order.
    public let rawValue: UInt64

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: StartID, right: StartID) -> Bool { left.rawValue < right.rawValue }
}

/// What the keeper tells the guard.
public enum Order: Hashable, Sendable {
    /// Are you there? Answered by `.pong` with the same token, also while killing.
    case ping(token: UInt64)
    /// Start the command and let it live until `deadline` (R1). The command is the part of this program's own
    /// arguments that begins at `commandIndex`; each of `environment` is a `NAME=value` that replaces an inherited
    /// one of that name.
    case start(StartID, deadline: Instant, commandIndex: Int, environment: [String])
    /// Let the child live until `deadline`, also if that is earlier than before. It asks as a ping does: answered by
    /// `.extended` with the same token, or by `.pong` where there is nothing to extend (no such start, or its kill
    /// has begun).
    case extend(StartID, deadline: Instant, token: UInt64)
    /// Send a signal to the command's own process, not to what it started. Ignored once killing.
    case signal(StartID, number: Int32)
    /// Kill the whole tree now. Nothing undoes it.
    case kill(StartID)
    /// The lower priority of every child from now on. Sent once, before the first start.
    case handicap(Handicap)
}

/// How much lower a child's priority is than that of keeper and guard, for the processor and when memory runs out
/// (R1).
public struct Handicap: Hashable, Sendable {
    /// Added to the nice value (nice(2)) that the sidecar was started with.
    public var nice: Int32
    /// Added to the oom_score_adj (proc_pid_oom_score_adj(5)) that the sidecar was started with.
    public var oomScore: Int32

    public init(nice: Int32 = 0, oomScore: Int32 = 0) {
        self.nice = nice
        self.oomScore = oomScore
    }
}
