// Says when the machine stood still. With a TTL of three seconds, a host that runs nobody for one of them moves the lease as
// it should, and a test that expected it to stay would blame the program.

import Clock
import Foundation
import Synchronization

/// A thread that wants to run every 10 ms, and remembers the longest time in which it could not.
public final class StallWitness: Sendable {
    private struct Shared {
        var longest = Duration.zero
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
                shared.withLock { [gap = now.since(last)] in $0.longest = max($0.longest, gap) }
                last = now
            }
        }
    }

    /// The longest time in which the thread did not run.
    public var longest: Duration { shared.withLock { $0.longest } }

    /// Ends the watch.
    public func end() { shared.withLock { $0.ended = true } }
}
