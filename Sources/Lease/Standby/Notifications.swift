// What a standby makes of "the record has changed". Whoever may connect to the database may say so, with any lease's name and
// as often as he likes: so it makes the standby look at once, and no more often than that costs nothing.

import Clock

/// When the standby shall look because somebody told it to.
struct Notifications: Hashable, Sendable {
    /// When to look; nil while nobody has said anything since the last look.
    private(set) var lookAt: Instant?
    /// The last look that came of one.
    private var heeded: Instant?

    /// Somebody said so. The first is heeded at once, those that follow together, `interval` after it.
    mutating func heard(at now: Instant, interval: Duration) {
        lookAt = lookAt ?? max(now, heeded.map { $0 + interval } ?? now)
    }

    /// The record is being read: that answers all that was heard so far.
    mutating func looked(at now: Instant) {
        if lookAt != nil { heeded = now }
        lookAt = nil
    }
}
