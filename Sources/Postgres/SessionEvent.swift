// What a session reports and what limits it has.

/// What happened to a session since it was last asked.
public enum SessionEvent: Sendable, Equatable {
    /// The session is established and idle.
    case connected
    /// The query succeeded; the session is idle.
    case result(QueryResult)
    /// The query failed; the session is idle and usable.
    case queryFailed(ServerError)
    /// A notification on a channel this session listens to. Arrives while idle, too.
    case notification(channel: String, payload: String)
    /// The session is over. Always the last event.
    case lost(SessionFailure)
}

/// How long the steps of a session may take.
public struct Limits: Sendable, Equatable {
    /// One candidate: one name look-up, or one address from connect(2) to ready.
    public var attempt: Duration
    /// The whole attempt to connect, with all candidates together.
    public var connect: Duration
    /// TCP: how long a connection is silent before the first keepalive probe, in whole seconds. The conninfo's
    /// `keepalives_idle` takes precedence.
    public var keepaliveIdle: Duration
    /// TCP: the time between two probes, in whole seconds. The conninfo's `keepalives_interval` takes precedence.
    public var keepaliveInterval: Duration
    /// TCP: after how many unanswered probes the connection counts as broken. The conninfo's `keepalives_count` takes
    /// precedence.
    public var keepaliveCount: Int
    /// TCP: how long sent data may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT). The conninfo's `tcp_user_timeout`
    /// takes precedence.
    public var userTimeout: Duration

    public init(
        attempt: Duration = .seconds(2), connect: Duration = .seconds(8), keepaliveIdle: Duration = .seconds(2),
        keepaliveInterval: Duration = .seconds(1), keepaliveCount: Int = 3, userTimeout: Duration = .seconds(5)
    ) {
        self.attempt = attempt
        self.connect = connect
        self.keepaliveIdle = keepaliveIdle
        self.keepaliveInterval = keepaliveInterval
        self.keepaliveCount = keepaliveCount
        self.userTimeout = userTimeout
    }
}
