// Closes this sidecar's own leadership in the history.

import Lease
import Postgres

struct EndHistory: TypedStatement {
    let writer: Writer
    let epoch: Epoch
    let reason: EndReason

    var sql: SQL {
        """
        UPDATE sidecar.history SET ended_at = clock_timestamp(), reason = \(reason.text)
        WHERE lease = \(writer.lease) AND epoch = \(epoch) AND instance = \(writer.instance) AND ended_at IS NULL
        """
    }

    func read(_ result: QueryResult) -> Reply { .done }
}
