// Closes this sidecar's own leadership in the history.

import Lease
import Postgres

struct EndHistory: TypedStatement {
    let writer: Writer
    let epoch: Epoch
    let reason: EndReason
    /// How long ago it ended.
    let ago: Duration

    var sql: SQL {
        """
        UPDATE sidecar.history SET reason = \(reason.text),
            ended_at = greatest(started_at, clock_timestamp() - \(ago.milliseconds) * interval '1 ms')
        WHERE lease = \(writer.lease) AND epoch = \(epoch) AND instance = \(writer.instance) AND ended_at IS NULL
        """
    }

    func read(_ result: QueryResult) -> Reply { .done }
}
