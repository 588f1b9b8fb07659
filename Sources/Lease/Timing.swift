// Every duration of the protocol, each with a name and a sentence, and how the durations must relate. They are
// validated once at the start. So the machine never meets a combination that cannot keep its promise (for example
// renewals that are rarer than the deadline).
//
// With the defaults: a leader renews every 2 s; each renewal gives its child 8 s from the moment it was sent; a standby
// may claim 10 s after it first saw the last renewal. The 2 s between pay for clock rates and for killing.

import Clock

/// TTL, renewal interval and margin of one sidecar (R2, R5). Always consistent: made by `init` only.
public struct Timing: Hashable, Sendable {
    /// How long a lease lasts after a renewal was sent.
    public let ttl: Duration
    /// How often the leader renews.
    public let renewInterval: Duration
    /// How much earlier than the TTL the child must be killed.
    public let margin: Duration

    /// How long a child may live after the renewal that allowed it was sent (R2).
    public let life: Duration

    /// The time limit of every call to the database, at the client.
    public let callLimit: Duration

    /// The shortest TTL. The margin of a shorter one could not absorb a pause of the scheduler.
    static let shortestTTL = Duration.milliseconds(500)
    /// The longest TTL. With a longer one, a crashed leader would be missing for more than an hour.
    static let longestTTL = Duration.seconds(3600)
    /// The shortest margin, whatever the TTL, because killing takes some milliseconds.
    static let shortestMargin = Duration.milliseconds(50)
    /// The shortest renewal interval. With a shorter one, the database would do nothing else.
    static let shortestRenewInterval = Duration.milliseconds(20)

    /// Fails with the two durations that contradict each other.
    public init(ttl: Duration, renewInterval: Duration? = nil, margin: Duration? = nil) throws(TimingError) {
        self.ttl = ttl
        self.margin = margin ?? ttl / 5
        self.renewInterval = renewInterval ?? ttl / 5
        life = ttl - self.margin
        callLimit = life / 4
        guard ttl >= Self.shortestTTL, ttl <= Self.longestTTL else { throw .ttlOutOfRange }
        guard self.margin >= ttl / 12, self.margin >= Self.shortestMargin else { throw .marginTooSmall }
        guard self.margin <= ttl / 2 else { throw .marginTooLarge }
        guard self.renewInterval >= Self.shortestRenewInterval else { throw .renewIntervalTooSmall }
        guard self.renewInterval * 2 <= ttl - self.margin else { throw .renewIntervalTooLarge }
    }
}

// MARK: - Lateness (R2) and the guard (R5, R12)

extension Timing {
    /// How many times the measured lateness is subtracted from what a renewal grants (R2).
    static let latenessFactor = 2

    /// For how long a late answer or timer of the guard is remembered and shortens what a renewal grants (R2), and
    /// for how long a sidecar that gave the lease up because of it does not claim.
    public var latenessWindow: Duration { ttl * 2 }

    /// Above this lateness no child is started, and a running one is given up. In the worst case a keeper must notice
    /// the deadline, wait for a silent guard, notice that too, and kill. It is late three times then. Twice is
    /// subtracted from the life, and the margin pays for the third (R2).
    var bearableLateness: Duration { margin - patienceWithGuard }

    /// Above this lateness a warning is logged: twice this lateness is the margin.
    var tellingLateness: Duration { margin / 2 }

    /// How long the guard's last answer may have taken at most. After a slower answer no renewal is sent for this
    /// guard (R5).
    public var answerLimit: Duration { margin / 4 }

    /// How long a guard that must kill may owe an answer (R12): a quarter of the margin at most, so that clock rates
    /// and killing have the rest.
    var patienceWithGuard: Duration { min(.milliseconds(100), margin / 4) }

    /// How long a guard that need not kill may owe an answer; its own deadline ends the child before that.
    var patienceWithIdleGuard: Duration { ttl }

    /// After this long without a question a guard with a child is asked again: a little later than a renewal would.
    var guardProbeInterval: Duration { renewInterval * 5 / 4 }
}

// MARK: - The leader (R5 to R7)

extension Timing {
    /// How long after a failed renewal the next one is sent.
    var renewRetryPause: Duration { min(renewInterval / 4, .milliseconds(250)) }

    /// How long after a lock was found busy it is tried again (R4, R6).
    var lockRetryPause: Duration { .milliseconds(100) }

    /// While more than this much life is left, a leader waits for a lock that another session holds. Then it renews
    /// without the lock (R6).
    var lifeWorthTheLock: Duration { life / 2 }
}

// MARK: - The standby (R3, R4, R9, R10)

extension Timing {
    /// How long after the holder's next renewal is due a standby polls: observation starts right after a renewal.
    var pollDelay: Duration { .milliseconds(20) }

    /// How long a standby waits for a renewal that is overdue before it polls again; `holder` is the holder's interval.
    func overduePollPause(holder: Duration) -> Duration { min(holder, renewInterval) / 4 }

    /// How long a standby postpones the next notification after it has followed one.
    public var notificationInterval: Duration { renewInterval / 8 }

    /// How long a standby does not claim, or does not read the record again, after its statement failed or changed
    /// nothing.
    var failurePause: Duration { renewInterval / 2 }

    /// How long a standby waits for the sessions that it has terminated to drop the lock.
    var terminationPause: Duration { .milliseconds(50) }

    /// How long a lock must keep a sidecar from its own record before R4 applies to that record as to any other (R9).
    var ownRecordPatience: Duration { ttl }

    /// How long a record must have been seen unchanged before the holder of its lock is terminated, whatever its TTL
    /// (R4).
    var holderPatience: Duration { ttl }

    /// R4: for how many of the longest TTL a busy lock is left to a stranger's session that is not idle.
    static let ttlsUntilAnyStrangerIsEnded = 2

    /// R4: after how many of the longest TTL a claim goes without a lock whose holder could not be terminated.
    static let ttlsUntilLockIsWaived = 3

    /// How long after a refusal that may pass by itself the rehearsal is repeated.
    var rehearsalRetryPause: Duration { renewInterval }

    /// How long after a refusal that counts the rehearsal is repeated.
    var refusedRehearsalPause: Duration { ttl }

    /// How often at most a changed reason of a refusal is reported.
    var refusalNoticeInterval: Duration { ttl * 6 }
}

// MARK: - The child

extension Timing {
    /// How long the command's exec may take, unless settings say otherwise. An exec that takes longer hangs (a file
    /// system that does not answer). It is killed and counts as a failed start, so that another node gets its turn.
    public static let usualStartLimit = Duration.seconds(30)

    /// How long after a child's first exit it is restarted; doubled with every exit in the window.
    public static let firstRestartWait = Duration.seconds(1)

    /// The longest wait before a restart.
    public static let longestRestartWait = Duration.seconds(30)
}

// MARK: - The session, and what only people need

extension Timing {
    /// How long to wait before the next connect, after so many that failed in a row: 50 ms, doubled each time, and
    /// never longer than the renewal interval.
    func reconnectPause(afterFailures failures: Int) -> Duration {
        min(Duration.milliseconds(50) * (1 << min(failures, 10)), renewInterval)
    }

    /// How long after a session was closed on purpose the next one is opened.
    var reopenPause: Duration { renewInterval / 4 }

    /// How often the entry in the registry is renewed.
    var registerInterval: Duration { ttl / 2 }

    /// For how many of the longest TTL no auxiliary statement is sent after one of them failed or cost the session.
    /// This is longer than any watch takes.
    static let ttlsOfAuxiliaryPause = 4

    /// After this long without a statement the server ends the lease's session (PostgreSQL 14 and later). It is
    /// longer than any pause between two polls or renewals. So only a frozen sidecar's session is idle for so long.
    public var idleSessionLimit: Duration { ttl * 3 / 2 }

    /// The same limit for the session that only listens.
    public var idleListenerLimit: Duration { ttl * 2 }

    /// How often LISTEN is sent again, which keeps that session from being ended.
    public var listenInterval: Duration { ttl }

    /// How often at most a session is given up because the schema has changed. Each time costs a standby its watch
    /// (R3).
    public var prepareAgainInterval: Duration { ttl * 2 }

    /// The readiness files are written again at least this often, so that they do not expire.
    public var pictureInterval: Duration { ttl / 5 }

    /// How long the keeper's loop waits at most: often enough for the watchdog, whatever else is due.
    public var longestLoopWait: Duration { ttl / 10 }

    /// How long a sidecar whose lease is settled may take to leave the list of members.
    var farewellLimit: Duration { callLimit }
}

/// Which relation between durations does not hold.
public enum TimingError: Error, Equatable, Sendable {
    /// Outside 500 ms to 1 h.
    case ttlOutOfRange
    /// Below a twelfth of the TTL or 50 ms. Clocks that differ by 2 % each way take 4 % of the TTL, and patience with
    /// a silent guard takes a quarter of the margin (R12). A margin of a twelfth leaves 2.4 % of the TTL for killing.
    case marginTooSmall
    /// Above half the TTL: the child would live shorter than the margin.
    case marginTooLarge
    /// Below 20 ms.
    case renewIntervalTooSmall
    /// A second renewal must fit before the deadline (TTL - margin) of the first.
    case renewIntervalTooLarge
}
