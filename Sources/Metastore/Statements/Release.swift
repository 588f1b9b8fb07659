// R7: releases the lease. It compares everything: a release that arrives late must not hit a record
// that has been continued since.

import Lease
import Postgres

struct Release: OneRowStatement {
    enum Column: String, ColumnName { case released }

    let writer: Writer
    let epoch: Epoch
    let beat: Int64

    var sql: SQL {
        """
        WITH done AS (
            UPDATE sidecar.lease AS l SET beat = l.beat + 1, released = true, holder = NULL,
                \(writer.everyWrite), backend_pid = NULL, backend_start = NULL
            WHERE l.name = \(writer.lease) AND l.epoch = \(epoch) AND l.holder = \(writer.instance) AND l.beat = \(beat)
                AND l.server = pg_postmaster_start_time() AND NOT l.released
                AND l.backend_pid = pg_backend_pid()
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM done) > 0 AS \(Column.released), pg_advisory_unlock_all()
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply {
        .released(try need(row.bool(.released), "the answer to a release"))
    }
}
