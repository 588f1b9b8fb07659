// R4: terminates the session that holds the lock of an expired record. It checks again that the
// record is unchanged and which session it names. A session that it does not name must have been
// idle for long, unless the demand is for any.

import Lease
import Postgres

struct TerminateHolder: OneRowStatement {
    enum Column: String, ColumnName { case terminated }

    let writer: Writer
    let seen: Record
    let strangers: StrangerDemand

    /// NULL: every session that holds the lock is terminated.
    private var idle: Int64? {
        if case .idleFor(let duration) = strangers { duration.milliseconds } else { nil }
    }

    var sql: SQL {
        """
        WITH seen AS MATERIALIZED (
            SELECT l.backend_pid, l.backend_start, l.server FROM sidecar.lease AS l
            WHERE l.name = \(writer.lease) AND l.epoch = \(seen.epoch) AND l.beat = \(seen.beat)
        )
        SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) AS \(Column.terminated)
        FROM seen, pg_locks AS k JOIN pg_stat_activity AS a ON a.pid = k.pid
            LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
        WHERE \(SQL.isHeldLock(of: writer.lease))
            AND a.pid <> pg_backend_pid() AND \(SQL.mayTerminate)
            AND ((a.pid = seen.backend_pid AND a.backend_start = seen.backend_start
                    AND seen.server = pg_postmaster_start_time())
                OR \(idle) IS NULL
                OR (a.state LIKE 'idle%' AND a.state_change < clock_timestamp() - \(idle) * interval '1 ms'))
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply {
        .terminated(Int(try need(row.int64(.terminated), "the answer to a termination")))
    }
}
