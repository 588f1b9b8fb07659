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
        case previous
        case gap = "gap_ms"
        case current
        case silent = "silent_ms"
    }

    let lease: String
    let limit: Int
    let since: Duration?

    /// `since`: only leaderships that lasted until so long ago, or longer.
    public init(lease: String, limit: Int, since: Duration? = nil) {
        self.lease = lease
        self.limit = limit
        self.since = since
    }

    public var sql: SQL {
        """
        -- If no end is recorded, the lease's record says whether the leadership lasts, or when it was last renewed.
        WITH all_of_it AS (
            SELECT h.*, lag(h.node) OVER (ORDER BY h.id) AS previous, lag(h.ended_at) OVER (ORDER BY h.id) AS left_at,
                l.epoch IS NOT NULL AND NOT l.released
                    AND l.renewed_at > clock_timestamp() - l.ttl_ms * interval '1 ms' AS current,
                l.renewed_at
            FROM sidecar.history AS h
                LEFT JOIN sidecar.lease AS l
                    ON l.name = h.lease AND l.epoch = h.epoch AND l.holder = h.instance AND h.ended_at IS NULL
            WHERE h.lease = \(lease)
        )
        SELECT h.\(Column.epoch), h.\(Column.node), h.\(Column.instance), h.\(Column.version), h.\(Column.reason),
            \(SQL.utc("h.started_at")) AS \(Column.startedAt), \(SQL.utc("h.ended_at")) AS \(Column.endedAt),
            \(SQL.milliseconds("""
                CASE WHEN h.current THEN clock_timestamp() ELSE coalesce(h.ended_at, h.renewed_at) END - h.started_at
                """)) AS \(Column.lasted),
            h.\(Column.previous), \(SQL.milliseconds("h.started_at - h.left_at")) AS \(Column.gap),
            h.\(Column.current), \(SQL.milliseconds("clock_timestamp() - h.renewed_at")) AS \(Column.silent)
        FROM all_of_it AS h
        WHERE \(since == nil)
            OR coalesce(h.ended_at, clock_timestamp())
                > clock_timestamp() - \((since ?? .zero).milliseconds) * interval '1 ms'
        ORDER BY h.id DESC LIMIT \(limit)
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
    /// Until its end, or until now while it lasts. Without a recorded end: until the last renewal, if that is known.
    public let lasted: Duration?
    /// The node that led before.
    public let previous: String?
    /// How long no leader was there before this one; nil when the previous end is not known.
    public let gap: Duration?
    /// The lease's record says that this leadership lasts.
    public let isCurrent: Bool?
    /// Without a recorded end: for how long nothing has been renewed, if that is known.
    public let silent: Duration?

    init(_ row: Row<ListHistory.Column>) {
        epoch = row.int64(.epoch).map { Epoch($0) }
        node = row.string(.node)
        instance = row.string(.instance).map { InstanceID($0) }
        version = row.string(.version)
        reason = row.string(.reason)
        startedAt = row.string(.startedAt)
        endedAt = row.string(.endedAt)
        lasted = row.milliseconds(.lasted)
        previous = row.string(.previous)
        gap = row.milliseconds(.gap)
        isCurrent = row.bool(.current)
        silent = row.milliseconds(.silent)
    }
}
