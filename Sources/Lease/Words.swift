// The words of the protocol as types: who, which epoch, which session, which server, and the record that all sidecars
// share. Plain values without behaviour, so that the same ones serve the state machine, the SQL and the tests.

import Clock

/// The fencing token: it grows with every claim and never repeats. The protocol compares (epoch, instance), never the
/// epoch alone (R4).
public struct Epoch: Comparable, Hashable, Sendable, CustomStringConvertible {
    /// Usually the database's unix time in milliseconds at the claim, never lower than the epoch before plus one.
    public let rawValue: Int64

    public init(_ rawValue: Int64) { self.rawValue = rawValue }

    public static func < (left: Epoch, right: Epoch) -> Bool { left.rawValue < right.rawValue }

    public var description: String { String(rawValue) }

    /// Whether a clock can have written it: no clock does for the next three thousand years. A record with a larger
    /// epoch was written by hand. It is taken as it is. But its epoch is not remembered as a lower bound for later
    /// claims, because that would keep every sidecar out once the row is repaired.
    var isPlausible: Bool { rawValue <= 100_000_000_000_000 }
}

/// One start of one sidecar: a random UUID, never reused.
public struct InstanceID: Hashable, Sendable, CustomStringConvertible {
    /// 32 hexadecimal digits with dashes, lower case.
    public let rawValue: String

    public init(_ rawValue: String) { self.rawValue = rawValue }

    public var description: String { rawValue }
}

/// One session of this sidecar with the database. Numbers are never reused, so that a late reply names a dead session.
public struct SessionID: Hashable, Comparable, Sendable {
    public let rawValue: Int

    public init(_ rawValue: Int) { self.rawValue = rawValue }

    public static func < (left: SessionID, right: SessionID) -> Bool { left.rawValue < right.rawValue }
}

/// One session as the server knows it: a backend's process id and its start. Together they identify one session
/// forever. A pid alone is used again (R5, R6, R9).
public struct BackendID: Hashable, Sendable {
    /// `pg_backend_pid()`.
    public let pid: Int32
    /// The backend's start in microseconds of the unix epoch, by the server's clock.
    public let startedAt: Int64

    public init(pid: Int32, startedAt: Int64) {
        self.pid = pid
        self.startedAt = startedAt
    }
}

/// One run of one PostgreSQL server: its `pg_postmaster_start_time()` in microseconds of the unix epoch.
public struct ServerID: Hashable, Sendable {
    public let rawValue: Int64

    public init(_ rawValue: Int64) { self.rawValue = rawValue }
}

/// What the row of a lease says (design: "Record"). Times in it are durations, never a wall clock.
public struct Record: Hashable, Sendable {
    public var epoch: Epoch
    /// Counts the writes inside an epoch.
    public var beat: Int64
    /// Nil when no sidecar holds it.
    public var holder: InstanceID?
    /// The holder's node, for people.
    public var node: String?
    /// How long the lease lasts, as the writer of this beat computes with it.
    public var ttl: Duration
    /// How often the holder renews; only for the phase of polls.
    public var renewInterval: Duration
    /// The holder confirmed that its tree is empty (R7).
    public var released: Bool
    /// An operator has forbidden every sidecar to run the child.
    public var suspended: Bool
    /// The server that took the write.
    public var server: ServerID
    /// The session that claimed or last renewed; nil when no sidecar holds the lease, or when the row does not say.
    public var backend: BackendID?

    public init(
        epoch: Epoch, beat: Int64, holder: InstanceID?, node: String?, ttl: Duration, renewInterval: Duration,
        released: Bool, suspended: Bool, server: ServerID, backend: BackendID? = nil
    ) {
        self.epoch = epoch
        self.beat = beat
        self.holder = holder
        self.node = node
        self.ttl = ttl
        self.renewInterval = renewInterval
        self.released = released
        self.suspended = suspended
        self.server = server
        self.backend = backend
    }
}

/// One reply to a poll: the record, if there is one, and the server that answered.
public struct Observation: Hashable, Sendable {
    public var record: Record?
    public var server: ServerID
    /// How old the beat is by the server's clock. Only for the phase of polls and for labels, never for a decision.
    public var age: Duration

    public init(record: Record?, server: ServerID, age: Duration) {
        self.record = record
        self.server = server
        self.age = age
    }
}

/// What a claim or renewal names besides the epoch: who we are.
public struct Identity: Hashable, Sendable {
    /// The lease's name.
    public let lease: String
    /// The name of the place (pod or host).
    public let node: String
    public let instance: InstanceID

    public init(lease: String, node: String, instance: InstanceID) {
        self.lease = lease
        self.node = node
        self.instance = instance
    }
}
