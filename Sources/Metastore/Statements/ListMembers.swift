// The registry: the sidecars of a lease that have been seen within three of their TTLs.

import Lease
import Postgres

/// Reads the live members, the leader first.
public struct ListMembers: ListStatement {
    public enum Column: String, ColumnName {
        case instance, node, version, leads, healthy
        case ttl = "ttl_ms"
        case backendPID = "backend_pid"
        case age = "age_ms"
        case up = "up_ms"
    }

    let lease: String

    public init(lease: String) { self.lease = lease }

    public var sql: SQL {
        """
        SELECT m.\(Column.instance), m.\(Column.node), m.\(Column.version), m.\(Column.leads), m.\(Column.healthy),
            m.\(Column.ttl), m.\(Column.backendPID),
            \(SQL.milliseconds("clock_timestamp() - m.last_seen")) AS \(Column.age),
            \(SQL.milliseconds("m.last_seen - m.started_at")) AS \(Column.up)
        FROM sidecar.member AS m
        WHERE m.lease = \(lease) AND m.last_seen > clock_timestamp() - 3 * m.ttl_ms * interval '1 ms'
        ORDER BY m.leads DESC, m.node, m.instance
        """
    }

    public func read(_ row: Row<Column>) -> Member { Member(row) }
}

/// One sidecar as it last described itself. Nothing is decided by it: a value that is NULL or
/// cannot be read is nil, so that a table changed by hand is still shown as far as possible.
public struct Member: Equatable, Sendable {
    public let instance: InstanceID?
    public let node: String?
    public let version: String?
    /// Whether it led when it was last seen. Who leads now is what the record says.
    public let leads: Bool?
    public let healthy: Bool?
    public let ttl: Duration?
    public let backendPID: Int32?
    /// Since it was last seen.
    public let age: Duration?
    /// From its start until it was last seen.
    public let up: Duration?

    init(_ row: Row<ListMembers.Column>) {
        instance = row.string(.instance).map { InstanceID($0) }
        node = row.string(.node)
        version = row.string(.version)
        leads = row.bool(.leads)
        healthy = row.bool(.healthy)
        ttl = row.milliseconds(.ttl)
        backendPID = row.pid(.backendPID)
        age = row.milliseconds(.age)
        up = row.milliseconds(.up)
    }
}
