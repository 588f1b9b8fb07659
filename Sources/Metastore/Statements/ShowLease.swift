// For people: one lease's record, its ages by the server's clock, and the session that holds its
// lock.

import Lease
import Postgres

/// Reads one lease's record and its lock's holder.
public struct ShowLease: TypedStatement {
    public enum Column: String, ColumnName {
        case name, epoch, beat, holder, node, version
        case ttl = "ttl_ms"
        case renewInterval = "renew_ms"
        case released, suspended
        case backendPID = "backend_pid"
        case sameServer = "same_server"
        case age = "age_ms"
        case led = "led_ms"
        case claimedAt = "claimed_at"
        case lockPID = "lock_pid"
        case lockApplication = "lock_application"
        case lockUser = "lock_user"
        case lockAgrees = "lock_agrees"
    }

    let lease: String

    public init(lease: String) { self.lease = lease }

    public var sql: SQL {
        """
        -- A role without pg_read_all_stats does not see another role's backend_start: then the pid has to do.
        SELECT l.\(Column.name), l.\(Column.epoch), l.\(Column.beat), l.\(Column.holder), l.\(Column.node),
            l.\(Column.version), l.\(Column.ttl), l.\(Column.renewInterval), l.\(Column.released), l.\(Column.suspended), l.\(Column.backendPID),
            l.server = pg_postmaster_start_time() AS \(Column.sameServer),
            \(SQL.milliseconds("clock_timestamp() - l.renewed_at")) AS \(Column.age),
            \(SQL.milliseconds("clock_timestamp() - l.claimed_at")) AS \(Column.led),
            \(SQL.utc("l.claimed_at")) AS \(Column.claimedAt),
            k.pid AS \(Column.lockPID), a.application_name AS \(Column.lockApplication),
            a.usename AS \(Column.lockUser),
            k.pid IS NOT DISTINCT FROM l.backend_pid
                AND (a.backend_start IS NULL OR a.backend_start IS NOT DISTINCT FROM l.backend_start)
                AS \(Column.lockAgrees)
        FROM sidecar.lease AS l
            LEFT JOIN pg_locks AS k ON \(SQL.isHeldLock(of: lease))
            LEFT JOIN pg_stat_activity AS a ON a.pid = k.pid
        WHERE l.name = \(lease) LIMIT 1
        """
    }

    /// Nil when there is no such lease.
    public func read(_ result: QueryResult) throws(UnreadableReply) -> LeaseDetails? {
        guard Column.names.allSatisfy(result.columns.contains) else { throw .otherQuestion }
        return result.rows.isEmpty ? nil : LeaseDetails(Row(result: result, index: 0))
    }
}

/// What people want to know about a lease. Nothing is decided by it: a value that is NULL or cannot
/// be read is nil, so that a table changed by hand is still shown as far as possible.
public struct LeaseDetails: Equatable, Sendable {
    public let name: String?
    public let epoch: Epoch?
    public let beat: Int64?
    public let holder: InstanceID?
    public let node: String?
    public let version: String?
    public let ttl: Duration?
    public let renewInterval: Duration?
    public let released: Bool?
    public let suspended: Bool?
    /// The leader's session.
    public let backendPID: Int32?
    /// Whether the server that took the last write is the one that answers.
    public let isSameServer: Bool?
    /// Since the last renewal.
    public let age: Duration?
    /// Since the claim.
    public let led: Duration?
    /// UTC, as in `2026-11-29T23:40:00Z`.
    public let claimedAt: String?
    /// The session that holds the advisory lock; nil if there is none.
    public let lockPID: Int32?
    public let lockApplication: String?
    public let lockUser: String?
    /// Whether the lock's holder is the record's session.
    public let lockAgrees: Bool?

    init(_ row: Row<ShowLease.Column>) {
        name = row.string(.name)
        epoch = row.int64(.epoch).map { Epoch($0) }
        beat = row.int64(.beat)
        holder = row.string(.holder).map { InstanceID($0) }
        node = row.string(.node)
        version = row.string(.version)
        ttl = row.milliseconds(.ttl)
        renewInterval = row.milliseconds(.renewInterval)
        released = row.bool(.released)
        suspended = row.bool(.suspended)
        backendPID = row.pid(.backendPID)
        isSameServer = row.bool(.sameServer)
        age = row.milliseconds(.age)
        led = row.milliseconds(.led)
        claimedAt = row.string(.claimedAt)
        lockPID = row.pid(.lockPID)
        lockApplication = row.string(.lockApplication)
        lockUser = row.string(.lockUser)
        lockAgrees = row.bool(.lockAgrees)
    }
}
