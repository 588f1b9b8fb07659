// The one kind of time that decisions are made with: CLOCK_BOOTTIME on this machine. Instants are never compared
// between machines and never come from a wall clock. This file holds the pure value; reading the clock is in
// BootClock.swift.

/// A point in time on this machine's `CLOCK_BOOTTIME`: nanoseconds since boot, suspend included (clock_gettime(2)).
public struct Instant: Comparable, Hashable, Sendable {
    /// Nanoseconds since boot.
    public var nanoseconds: Int64

    /// The instant that many nanoseconds after boot.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    /// The instant `duration` later; stops at the ends of the scale instead of trapping.
    public static func + (instant: Instant, duration: Duration) -> Instant {
        let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(duration.nanoseconds)
        guard overflow else { return Instant(nanoseconds: sum) }
        return Instant(nanoseconds: duration.nanoseconds > 0 ? .max : .min)
    }

    /// The instant `duration` earlier; stops at the ends of the scale instead of trapping.
    public static func - (instant: Instant, duration: Duration) -> Instant { instant + (.zero - duration) }

    /// How long after `earlier` this instant lies; negative when it lies before.
    public func since(_ earlier: Instant) -> Duration {
        let (difference, overflow) = nanoseconds.subtractingReportingOverflow(earlier.nanoseconds)
        guard overflow else { return .nanoseconds(difference) }
        return .nanoseconds(nanoseconds) - .nanoseconds(earlier.nanoseconds)
    }
}

extension Duration {
    /// The whole of it in nanoseconds, cut at some 146 years.
    public var nanoseconds: Int64 {
        // Below nine seconds, as most durations here are, one division by a constant will do.
        let small = Int64(truncatingIfNeeded: attoseconds)
        if Int128(small) == attoseconds { return small / 1_000_000_000 }
        let (seconds, attoseconds) = components
        let limit: Int64 = .max / 2_000_000_000
        return min(max(seconds, -limit), limit) * 1_000_000_000 + attoseconds / 1_000_000_000
    }

    /// The whole of it in milliseconds, rounded down towards zero.
    public var milliseconds: Int64 { nanoseconds / 1_000_000 }
}
