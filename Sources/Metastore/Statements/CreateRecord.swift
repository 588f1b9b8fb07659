// R10: creates the missing record, live and without a holder. No epoch may be used twice, so the
// new one starts above every epoch ever known.

import Lease
import Postgres

struct CreateRecord: TypedStatement {
    let writer: Writer
    let ttl: Duration
    let above: Epoch

    var sql: SQL {
        """
        INSERT INTO sidecar.lease (name, epoch, beat, ttl_ms, renew_ms, released, server, renewed_at)
        SELECT \(writer.lease), greatest(\(above) + 1, \(SQL.unixMilliseconds),
                (SELECT max(h.epoch) + 1 FROM sidecar.history AS h
                    WHERE h.lease = \(writer.lease) AND h.epoch <= 100000000000000)),
            0, \(ttl.milliseconds), \(writer.timing.renewInterval.milliseconds), false,
            pg_postmaster_start_time(), clock_timestamp()
        ON CONFLICT DO NOTHING
        """
    }

    /// Nothing to read: the next observation shows the record, whichever sidecar created it.
    func read(_ result: QueryResult) -> Reply { .created }
}
