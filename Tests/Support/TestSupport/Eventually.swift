// Waiting for a condition with a deadline. This is the only place in the tests that sleeps: a test says what it waits
// for, gets on as soon as that is true, and fails with those words when it never becomes true.

import Clock
import Foundation

/// A condition that did not become true in time.
public struct NeverHappened: Error, CustomStringConvertible {
    /// What was waited for, and for how long.
    public let description: String
}

/// Waits until `condition` holds, looking every 10 ms, or less often where a look is expensive and nothing hangs on it.
///
/// The timeout is for broken code only and therefore generous: no test should come near it on a slow machine. A machine that
/// stands still for a while uses up half a second of it, however long that was: what is waited for stood still, too.
/// - Throws: `NeverHappened` after `timeout`, and whatever the condition throws.
public func eventually(
    _ what: String, timeout: Duration = .seconds(30), every interval: Duration = .milliseconds(10),
    _ condition: () throws -> Bool
) throws {
    var patience = Patience(what, timeout)
    while try !patience.sees(condition) {
        patience.slept(ContinuousClock().measure { usleep(useconds_t(interval.nanoseconds / 1000)) })
    }
}

/// The same for a test that leaves its thread to others while it waits.
public func eventually(
    awaiting what: String, timeout: Duration = .seconds(30), every interval: Duration = .milliseconds(10),
    _ condition: () throws -> Bool
) async throws {
    var patience = Patience(what, timeout)
    while try !patience.sees(condition) {
        patience.slept(await ContinuousClock().measure { try? await Task.sleep(for: interval) })
    }
}

/// How long something has been waited for.
private struct Patience {
    private let what: String
    private let timeout: Duration
    private var waited = Duration.zero

    init(_ what: String, _ timeout: Duration) {
        self.what = what
        self.timeout = timeout
    }

    mutating func sees(_ condition: () throws -> Bool) throws -> Bool {
        // A condition may block for a time of its own, which counts; only a sleep is known to be short.
        let began = RunningTime.now
        if try condition() { return true }
        waited += RunningTime.now - began
        guard waited < timeout else { throw NeverHappened(description: "\(what): not within \(timeout)") }
        return false
    }

    mutating func slept(_ duration: Duration) { waited += min(duration, RunningTime.longestStep) }
}

/// The time in which this process was let run, as a thread sees it that has hardly anything to do. With a lock that
/// ThreadSanitizer can see into.
private final class RunningTime: @unchecked Sendable {
    /// What is longer than this between two looks was no sleep, but a machine that stood still.
    static let longestStep = Duration.milliseconds(500)

    private static let shared: RunningTime = {
        let time = RunningTime()
        startThread("running time") {
            while true {
                usleep(50_000)
                time.tick()
            }
        }
        return time
    }()
    private let lock = NSLock()
    private var passed = Duration.zero
    private var last = ContinuousClock.now

    private func tick() {
        lock.withLock {
            let now = ContinuousClock.now
            passed += min(now - last, Self.longestStep)
            last = now
        }
    }

    private func read() -> Duration { lock.withLock { passed + min(ContinuousClock.now - last, Self.longestStep) } }

    static var now: Duration { shared.read() }
}
