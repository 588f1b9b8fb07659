// The history: the last leaderships of a lease, newest first.

import Lease
import Postgres

/// Reads the last leaderships, newest first.
public struct ListHistory: ListStatement {
    public enum Column: String, ColumnName {
        case epoch, node, instance, version, reason
        case startedAt = "started_at"
        case endedAt = "ended_at"
        case lasted = "lasted_ms"
    }

    let lease: String
    let limit: Int

    public init(lease: String, limit: Int) {
        self.lease = lease
        self.limit = limit
    }

    public var sql: SQL {
        """
        SELECT h.\(Column.epoch), h.\(Column.node), h.\(Column.instance), h.\(Column.version), h.\(Column.reason),
            \(SQL.utc("h.started_at")) AS \(Column.startedAt), \(SQL.utc("h.ended_at")) AS \(Column.endedAt),
            \(SQL.milliseconds("coalesce(h.ended_at, clock_timestamp()) - h.started_at")) AS \(Column.lasted)
        FROM sidecar.history AS h WHERE h.lease = \(lease) ORDER BY h.id DESC LIMIT \(limit)
        """
    }

    public func read(_ row: Row<Column>) -> HistoryEntry { HistoryEntry(row) }
}

/// One leadership. Nothing is decided by it: a value that is NULL or cannot be read is nil, so that
/// a table changed by hand is still shown as far as possible.
public struct HistoryEntry: Equatable, Sendable {
    public let epoch: Epoch?
    public let node: String?
    public let instance: InstanceID?
    public let version: String?
    /// Why it ended; nil while it lasts.
    public let reason: String?
    /// UTC, as in `2026-11-29T23:40:00Z`.
    public let startedAt: String?
    /// Likewise; nil while it lasts.
    public let endedAt: String?
    /// Until its end, or until now.
    public let lasted: Duration?

    init(_ row: Row<ListHistory.Column>) {
        epoch = row.int64(.epoch).map { Epoch($0) }
        node = row.string(.node)
        instance = row.string(.instance).map { InstanceID($0) }
        version = row.string(.version)
        reason = row.string(.reason)
        startedAt = row.string(.startedAt)
        endedAt = row.string(.endedAt)
        lasted = row.milliseconds(.lasted)
    }
}
