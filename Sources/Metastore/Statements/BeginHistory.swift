// Opens the new leadership in the history, closes those that their leader could not close, and
// keeps the last thousand.

import Lease
import Postgres

struct BeginHistory: TypedStatement {
    let writer: Writer
    let epoch: Epoch
    /// How long ago it began.
    let ago: Duration
    /// How long ago the previous leader renewed for the last time.
    let previousRenewedAgo: Duration

    var sql: SQL {
        """
        WITH closed AS (
            UPDATE sidecar.history SET reason = 'expired: no renewal for its TTL',
                ended_at = greatest(started_at,
                    clock_timestamp() - \(previousRenewedAgo.milliseconds) * interval '1 ms')
            WHERE lease = \(writer.lease) AND epoch < \(epoch) AND ended_at IS NULL
        ),
        trimmed AS (
            DELETE FROM sidecar.history WHERE lease = \(writer.lease) AND id <= (
                SELECT h.id FROM sidecar.history AS h
                WHERE h.lease = \(writer.lease) ORDER BY h.id DESC OFFSET 1000 LIMIT 1)
        )
        INSERT INTO sidecar.history (lease, epoch, instance, node, version, started_at)
        VALUES (\(writer.lease), \(epoch), \(writer.instance), \(writer.identity.node), \(writer.version),
            clock_timestamp() - \(ago.milliseconds) * interval '1 ms')
        """
    }

    func read(_ result: QueryResult) -> Reply { .done }
}
