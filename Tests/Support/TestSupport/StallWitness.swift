// Says when the machine stood still. With a TTL of three seconds, a host that runs nobody for one of them moves the lease as
// it should, and a test that expected it to stay would blame the program.

import Clock
import Foundation
import Synchronization

/// A thread that wants to run every 10 ms, and remembers the times in which it could not.
public final class StallWitness: Sendable {
    /// Shorter ones are nobody's excuse.
    private static let shortest = Duration.milliseconds(30)

    private struct Shared {
        var longest = Duration.zero
        var stalls: [ClosedRange<Instant>] = []
        var ended = false
    }
    private let shared = Mutex(Shared())

    /// Watches from now on.
    public init() {
        startThread("witness") { [self] in
            var last = BootClock.now()
            while !shared.withLock({ $0.ended }) {
                usleep(10_000)
                let now = BootClock.now()
                shared.withLock { [last] in
                    let gap = now.since(last)
                    $0.longest = max($0.longest, gap)
                    if gap > Self.shortest { $0.stalls.append(last...now) }
                }
                last = now
            }
        }
    }

    /// The longest time in which the thread did not run.
    public var longest: Duration { shared.withLock { $0.longest } }

    /// Whether it could not run for longer than `least` (30 ms or more), at some time of these.
    public func stalled(longerThan least: Duration, during times: ClosedRange<Instant>) -> Bool {
        shared.withLock { shared in
            shared.stalls.contains { $0.overlaps(times) && $0.upperBound.since($0.lowerBound) > least }
        }
    }

    /// Ends the watch.
    public func end() { shared.withLock { $0.ended = true } }
}
