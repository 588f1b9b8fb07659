// Says when the machine stood still. With a TTL of three seconds, a host that runs nobody for one of them moves the lease as
// it should, and a test that expected it to stay would blame the program.

import Clock
import Foundation
import Glibc
import Synchronization

/// A thread that wants to run every 10 ms, and remembers the times in which it could not. It also asks the kernel how long
/// the processes that it watches were ready to run and did not (proc(5), schedstat).
public final class StallWitness: Sendable {
    /// Shorter ones are nobody's excuse.
    private static let shortest = Duration.milliseconds(30)
    /// How often the kernel is asked, and over how many answers in a row the waiting of a process is added up: a second.
    private static let askedEvery = Duration.milliseconds(100)
    private static let answers = 10

    private struct Shared {
        var longest = Duration.zero
        var stalls: [ClosedRange<Instant>] = []
        var watched: [pid_t] = []
        var threads: [String] = []
        var ended = false
    }
    private let shared = Mutex(Shared())

    /// Watches from now on.
    public init() {
        startThread("witness") { [self] in
            var last = BootClock.now()
            var asked = last
            var waits: [String: Waiting] = [:]
            while !shared.withLock({ $0.ended }) {
                usleep(10_000)
                let now = BootClock.now()
                note(last...now)
                last = now
                guard now.since(asked) >= Self.askedEvery else { continue }
                let (watched, threads) = shared.withLock { ($0.watched, $0.threads) }
                for each in watched.flatMap({ [$0] + Self.children(of: $0) }).map({ "/proc/\($0)" }) + threads {
                    let waited = waits[each, default: Waiting()].add(Self.waited(each), keeping: Self.answers)
                    if waited > Self.shortest { note((now - waited)...now) }
                }
                asked = now
            }
        }
    }

    private func note(_ gap: ClosedRange<Instant>) {
        let length = gap.upperBound.since(gap.lowerBound)
        shared.withLock { shared in
            shared.longest = max(shared.longest, length)
            if length > Self.shortest { shared.stalls.append(gap) }
        }
    }

    /// Also counts the time in which that process, or a child of it, was ready to run and did not.
    public func watch(_ pid: pid_t) { shared.withLock { $0.watched.append(pid) } }

    /// Also counts the time in which the calling thread was ready to run and did not: who looks late judges wrongly.
    public func watchThisThread() {
        guard let thread = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self") else {
            return
        }
        shared.withLock { $0.threads.append("/proc/" + thread) }
    }

    /// The longest time in which the thread did not run, or of a second in which what is watched did not.
    public var longest: Duration { shared.withLock { $0.longest } }

    /// Whether it could not run for longer than `least` (30 ms or more), at some time of these.
    public func stalled(longerThan least: Duration, during times: ClosedRange<Instant>) -> Bool {
        shared.withLock { shared in
            shared.stalls.contains { $0.overlaps(times) && $0.upperBound.since($0.lowerBound) > least }
        }
    }

    /// Ends the watch.
    public func end() { shared.withLock { $0.ended = true } }

    /// Waits until this machine lets a thread run whenever it wants for two seconds, but not for ever.
    public static func waitForCalm(atMost patience: Duration) {
        let witness = StallWitness()
        defer { witness.end() }
        let end = BootClock.now() + patience
        try? eventually("the machine is calm", timeout: patience) {
            let now = BootClock.now()
            let begin = now - .seconds(2)
            return now > end
                || (witness.age > .seconds(2) && !witness.stalled(longerThan: .milliseconds(150), during: begin...now))
        }
    }

    private let began = BootClock.now()
    private var age: Duration { BootClock.now().since(began) }

    /// The last few answers of the kernel about one process.
    private struct Waiting {
        private var before: Int64?
        private var latest: [Int64] = []

        /// - Returns: how long it waited in the time of the answers that are kept.
        mutating func add(_ total: Int64?, keeping count: Int) -> Duration {
            guard let total else { return .zero }
            if let before { latest.append(max(0, total - before)) }
            before = total
            latest = latest.suffix(count)
            return .nanoseconds(latest.reduce(0, +))
        }
    }

    /// For how long a thread, or a process's main thread, has been ready to run without running, in nanoseconds since its start.
    private static func waited(_ folder: String) -> Int64? {
        let words = String(decoding: ProcessTable.read(folder + "/schedstat") ?? [], as: UTF8.self).split(
            separator: " ")
        return words.count > 1 ? Int64(words[1]) : nil
    }

    private static func children(of pid: pid_t) -> [pid_t] {
        String(decoding: ProcessTable.read("/proc/\(pid)/task/\(pid)/children") ?? [], as: UTF8.self)
            .split(separator: " ").compactMap { pid_t($0) }
    }
}
