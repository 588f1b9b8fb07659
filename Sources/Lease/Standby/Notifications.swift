// How a standby reacts to the notification that the record has changed. Every role that may connect to the database
// can send it, for any lease and as often as it likes. So a notification only makes the standby read the record at
// once, and only so often that a flood costs nothing.

import Clock

/// When the standby reads the record because of a notification.
struct Notifications: Hashable, Sendable {
    /// When to read the record; nil if no notification has come since the last reading.
    private(set) var lookAt: Instant?
    /// The last reading because of a notification.
    private var heeded: Instant?

    /// A notification came. The first is followed at once. Those that come soon after it are followed together,
    /// `interval` after it.
    mutating func heard(at now: Instant, interval: Duration) {
        lookAt = lookAt ?? max(now, heeded.map { $0 + interval } ?? now)
    }

    /// The record is being read. This answers all notifications so far.
    mutating func looked(at now: Instant) {
        if lookAt != nil { heeded = now }
        lookAt = nil
    }
}
