// When processes that SIGKILL does not end are named: by the guard, and by the keeper when it kills itself. They are in
// state D, or of another user whom the sidecar may not signal.

import Clock

/// The times at which survivors are named.
public enum Naming {
    /// The first time, counted from the first SIGKILL: long after any process that can die has died.
    public static let first = Duration.seconds(2)
    /// From then on.
    public static let again = Duration.seconds(10)
    /// How many whole sweeps there must have been before: a process that was stopped itself must not count that time.
    static let sweeps = 20

    /// One kill's.
    public struct Schedule: Equatable, Sendable {
        private var next: Instant
        private var sweepsLeft = Naming.sweeps

        /// The kill begins now.
        public init(from now: Instant) { next = now + Naming.first }

        /// To be asked after each whole sweep that left something alive: whether to name it now.
        public mutating func isDue(at now: Instant) -> Bool {
            sweepsLeft = max(0, sweepsLeft - 1)
            guard sweepsLeft == 0, now >= next else { return false }
            next = now + Naming.again
            return true
        }
    }
}
