// When processes are named that SIGKILL does not end: by the guard, and by the keeper when it kills itself. They are
// in state D, or belong to another user whom the sidecar may not signal.

import Clock

/// The times at which survivors are named.
public enum Naming {
    /// The first time, counted from the first SIGKILL: long after any process that can die has died.
    public static let first = Duration.seconds(2)
    /// The time between one naming and the next.
    public static let again = Duration.seconds(10)
    /// How many whole sweeps there must have been before. So the time in which the sweeping process itself was
    /// stopped does not count.
    static let sweeps = 20

    /// The times for one kill.
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
