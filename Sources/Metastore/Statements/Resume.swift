// R6, R9: a renewal through another session, which takes the lock again. Our own former backend may
// still hold the lock on a half-open connection, so it is terminated first. A pid alone does not
// identify a backend, so its start is compared as well.

import Lease
import Postgres

struct Resume: OneRowStatement {
    /// The same answer as to a renewal.
    typealias Column = Renew.Column

    static let demanded = Renew.demanded
    static let severalRows = UnreadableReply.severalRecords

    let writer: Writer
    let epoch: Epoch
    /// The sessions that this process has used.
    let ours: [BackendID]
    let lock: LockDemand

    /// Whether the record `l` is this process's own.
    private var isOurs: SQL {
        """
        l.name = \(writer.lease) AND l.epoch = \(epoch) AND l.holder = \(writer.instance) AND NOT l.released
            AND \(SQL.wasWritten(by: ours))
        """
    }

    var sql: SQL {
        """
        WITH mine AS MATERIALIZED (
            SELECT l.backend_pid, l.backend_start, l.server FROM sidecar.lease AS l
            WHERE \(isOurs)
        ),
        former AS MATERIALIZED (
            SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) AS gone
            FROM mine JOIN pg_stat_activity AS a
                ON a.pid = mine.backend_pid AND a.backend_start = mine.backend_start
                LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
            WHERE mine.server = pg_postmaster_start_time() AND a.pid <> pg_backend_pid() AND \(SQL.mayTerminate)
        ),
        got AS MATERIALIZED (
            SELECT former.gone, \(SQL.tryLock(writer.lockKey, lock)) AS locked
            FROM former CROSS JOIN mine
        ),
        won AS (
            UPDATE sidecar.lease AS l SET beat = l.beat + 1, \(writer.holderColumns)
            WHERE \(isOurs) AND (SELECT locked FROM got)
            RETURNING l.epoch, l.beat
        ),
        \(Fence.sql(of: "won", writer))
        SELECT won.beat AS \(Column.beat), fence.*, coalesce(got.locked, false) AS \(Column.locked),
            (SELECT count(*) FROM mine) > 0 AS \(Column.ours),
            CASE WHEN got.locked AND won.beat IS NULL THEN pg_advisory_unlock(\(writer.lockKey)) END AS unlocked
        FROM fence LEFT JOIN got ON true LEFT JOIN won ON true
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply { .renewal(try Renew.renewal(row)) }
}
