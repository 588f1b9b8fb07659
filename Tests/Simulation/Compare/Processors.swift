// Whether a processor stood still: one of two that does so holds up whoever is on it, a command that is to die or the guard's
// alarm, and neither the worker on the other nor what the kernel counts of the guard tells of it.

import Clock
import Glibc
import Synchronization

/// A thread on each processor, which sleeps and looks how late it wakes.
final class Processors: Sendable {
    private let stalls = Mutex<[ClosedRange<Instant>]>([])
    private let began = BootClock.now()
    private let count: Int

    init() {
        var allowed = [UInt8](repeating: 0, count: 128)
        _ = Self.affinity("sched_getaffinity")?(0, allowed.count, &allowed)
        count = allowed.reduce(0) { $0 + $1.nonzeroBitCount }
        for number in 0..<allowed.count * 8 where allowed[number / 8] >> (number % 8) & 1 == 1 {
            let seat = Unmanaged.passRetained(Seat(self, number))
            var thread = pthread_t()
            let error = pthread_create(
                &thread, nil,
                { pointer in
                    guard let pointer else { return nil }
                    Unmanaged<Seat>.fromOpaque(pointer).takeRetainedValue().look()
                }, seat.toOpaque())
            if error != 0 { seat.release() }
        }
    }

    /// Whether one of them stood still for longer than that since then.
    func stoodStill(since begin: Instant, longerThan limit: Duration) -> Bool {
        stalls.withLock { stalls in
            stalls.contains { $0.upperBound > begin && $0.upperBound.since($0.lowerBound) > limit }
        }
    }

    /// For how much of the time until now they stood still, in per cent.
    var stillShare: Int64 {
        let still = stalls.withLock { $0.reduce(Duration.zero) { $0 + $1.upperBound.since($1.lowerBound) } }
        let all = BootClock.now().since(began).milliseconds * Int64(max(count, 1))
        return all > 0 ? still.milliseconds * 100 / all : 0
    }

    /// Whether the machine had too little time for this.
    var wereBusy: Bool { stillShare >= 5 }

    private typealias Affinity = @convention(c) (pid_t, Int, UnsafeMutablePointer<UInt8>) -> Int32

    /// sched_getaffinity(2) and its like: in glibc, but not in Swift's Glibc.
    private static func affinity(_ name: String) -> Affinity? {
        dlsym(nil, name).map { unsafeBitCast($0, to: Affinity.self) }
    }

    private final class Seat: Sendable {
        private let all: Processors
        private let number: Int

        init(_ all: Processors, _ number: Int) {
            self.all = all
            self.number = number
        }

        func look() -> Never {
            var own = [UInt8](repeating: 0, count: 128)
            own[number / 8] = 1 << (number % 8)
            _ = Processors.affinity("sched_setaffinity")?(0, own.count, &own)
            while true {
                let before = BootClock.now()
                usleep(5000)
                let after = BootClock.now()
                // A wake-up as late as this is nothing to any slot.
                guard after.since(before) > .milliseconds(10) else { continue }
                all.stalls.withLock { $0.append(before...after) }
            }
        }
    }
}
