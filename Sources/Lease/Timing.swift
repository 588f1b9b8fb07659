// The durations of the protocol and how they must relate. Validated once at start, so that the machine never meets a
// combination that cannot keep its promise (for example renewals rarer than the deadline).
//
// With the defaults: a leader renews every 2 s; each renewal gives its child 8 s from the moment it was sent; a standby
// may claim 10 s after it first saw the last renewal. The 2 s between pay for clock rates and for killing.

import Clock

/// TTL, renewal interval and margin of one sidecar (R2, R5). Always consistent: made by `init` only.
public struct Timing: Equatable, Sendable {
    /// How long a lease lasts after a renewal was sent.
    public let ttl: Duration
    /// How often the leader renews.
    public let renewInterval: Duration
    /// How much earlier than the TTL the child must be killed.
    public let margin: Duration

    /// How long a child may live after the renewal that allowed it was sent (R2).
    public let life: Duration

    /// The limit of every call to the database, at the client and at the server (design: "Session").
    public let callLimit: Duration

    /// For how long a late answer or timer of the guard is remembered and shortens what a renewal grants (R2), and for how long
    /// a sidecar that gave the lease up because of it does not claim.
    public var latenessWindow: Duration { ttl * 2 }

    /// How long the guard's last answer may have taken for a renewal to be sent on its behalf (R5).
    public var answerLimit: Duration { margin / 4 }

    /// R4: for how many of the longest TTL a lock that claims find busy is left to a stranger who is not idle.
    static let ttlsUntilAnyStrangerIsEnded = 2

    /// R4: after how many of the longest TTL a claim goes without a lock whose holder could not be ended.
    static let ttlsUntilLockIsWaived = 3

    /// Fails with the two durations that contradict each other.
    public init(ttl: Duration, renewInterval: Duration? = nil, margin: Duration? = nil) throws(TimingError) {
        self.ttl = ttl
        self.margin = margin ?? ttl / 5
        self.renewInterval = renewInterval ?? ttl / 5
        life = ttl - self.margin
        callLimit = life / 4
        guard ttl >= .milliseconds(500), ttl <= .seconds(3600) else { throw .ttlOutOfRange }
        guard self.margin >= ttl / 12, self.margin >= .milliseconds(50) else { throw .marginTooSmall }
        guard self.margin <= ttl / 2 else { throw .marginTooLarge }
        guard self.renewInterval >= .milliseconds(20) else { throw .renewIntervalTooSmall }
        guard self.renewInterval * 2 <= ttl - self.margin else { throw .renewIntervalTooLarge }
    }
}

extension Timing {
    /// How long a standby heeds no further notification after it has heeded one.
    public var notificationInterval: Duration { renewInterval / 8 }
}

/// Which relation between durations does not hold.
public enum TimingError: Error, Equatable, Sendable {
    /// Outside 500 ms to 1 h.
    case ttlOutOfRange
    /// Below a twelfth of the TTL or 50 ms. Clocks 2 % apart each way take 4 % of the TTL, patience with a silent guard a
    /// quarter of the margin (R12): of a twelfth, 2.4 % of the TTL are left for killing.
    case marginTooSmall
    /// Above half the TTL: the child would live shorter than the margin.
    case marginTooLarge
    /// Below 20 ms.
    case renewIntervalTooSmall
    /// A second renewal must fit before the deadline (TTL - margin) of the first.
    case renewIntervalTooLarge
}
