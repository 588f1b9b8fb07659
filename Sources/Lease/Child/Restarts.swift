// The child's own failures: restart here with exponential back-off. After too many restarts within the window, give
// the lease up and do not claim it for a while, so that another node gets its turn.

import Clock

/// How often and how fast a failing child is started again.
public struct RestartPolicy: Hashable, Sendable {
    /// Restarts allowed within the window; the next exit gives the lease up.
    public let maxRestarts: Int
    /// Exits older than this are forgotten.
    public let window: Duration
    /// How long this sidecar does not claim after it gave up.
    public let cooldown: Duration
    /// The first wait; doubles with every exit in the window, up to `longestWait`.
    public let firstWait: Duration
    /// The longest wait before a restart.
    public let longestWait: Duration

    public init(
        maxRestarts: Int, window: Duration, cooldown: Duration, firstWait: Duration = Timing.firstRestartWait,
        longestWait: Duration = Timing.longestRestartWait
    ) {
        self.maxRestarts = maxRestarts
        self.window = window
        self.cooldown = cooldown
        self.firstWait = firstWait
        self.longestWait = longestWait
    }
}

/// The exits of the child that still count.
struct Restarts: Hashable, Sendable {
    enum Verdict: Hashable, Sendable {
        case restart(after: Duration, attempt: Int)
        case giveUp
    }

    private var exits: [Instant] = []

    /// Notes an exit and returns what follows. Giving up forgets all exits: the next leadership counts from zero.
    mutating func noteExit(at now: Instant, policy: RestartPolicy) -> Verdict {
        exits.removeAll { now.since($0) > policy.window }
        exits.append(now)
        guard exits.count <= policy.maxRestarts else {
            exits.removeAll()
            return .giveUp
        }
        var wait = policy.firstWait
        for _ in 1..<exits.count where wait < policy.longestWait { wait = wait * 2 }
        return .restart(after: min(wait, policy.longestWait), attempt: exits.count)
    }
}
