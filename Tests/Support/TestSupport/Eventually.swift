// Waiting for a condition with a deadline. This is the only place in the tests that sleeps: a test says what it waits
// for, gets on as soon as that is true, and fails with those words when it never becomes true.

import Foundation

/// A condition that did not become true in time.
public struct NeverHappened: Error, CustomStringConvertible {
    /// What was waited for, and for how long.
    public let description: String
}

/// Waits until `condition` holds, looking every 10 ms.
///
/// The timeout is for broken code only and therefore generous: no test should come near it on a slow machine.
/// - Throws: `NeverHappened` after `timeout`, and whatever the condition throws.
public func eventually(
    _ what: String, timeout: Duration = .seconds(30), _ condition: () throws -> Bool
) throws {
    let clock = ContinuousClock()
    let start = clock.now
    while try !condition() {
        guard clock.now - start < timeout else {
            throw NeverHappened(description: "\(what): not within \(timeout)")
        }
        usleep(10_000)
    }
}
