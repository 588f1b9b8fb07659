// Sees whether the lease loop turns. A loop that hangs for longer than a TTL cannot renew any more, its child is
// already dead (the guard's deadline), and nobody would restart it: so the watchdog ends the process.

import Clock
import Glibc
import Helpers
import Synchronization

/// A thread that watches the loop's pulse.
package final class Watchdog: Sendable {
    /// How often the watchdog looks within a TTL.
    private static let looks = 10

    private let pulse = Atomic<UInt64>(0)
    private let retired = Atomic<Bool>(false)

    package init() {}

    /// Called by the loop every time round.
    func beat() { pulse.wrappingAdd(1, ordering: .relaxed) }

    /// From now on a slow loop is no reason to end: the keeper is killing a dead guard's tree, and nobody else would.
    func retire() { retired.store(true, ordering: .relaxed) }

    /// Starts to watch; `onHang` is called once and must end the process.
    ///
    /// It counts its own looks instead of reading a clock: when the whole process was stopped or starved, the watchdog
    /// was, too, and that is no reason to end.
    package func start(ttl: Duration, onHang: @escaping @Sendable () -> Never) throws {
        let pause = Int32(clamping: max(10, ttl.milliseconds / Int64(Self.looks)))
        try Threads.start("sidecar-watch") { [self] in
            var last = pulse.load(ordering: .relaxed)
            var still = 0
            while true {
                poll(nil, 0, pause)
                let now = pulse.load(ordering: .relaxed)
                still = now == last ? still + 1 : 0
                last = now
                if still > Self.looks + 1, !retired.load(ordering: .relaxed) { onHang() }
            }
        }
    }
}
