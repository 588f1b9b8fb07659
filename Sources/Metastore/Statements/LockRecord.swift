// Takes the lock of the record's row as a claim's or renewal's update does, but does not wait for it.

import Postgres

struct LockRecord: TypedStatement {
    let lease: String

    var sql: SQL {
        "SELECT l.epoch FROM sidecar.lease AS l WHERE l.name = \(lease) FOR NO KEY UPDATE NOWAIT"
    }

    /// Nothing to read: a row that another transaction has locked is an error.
    func read(_ result: QueryResult) {}
}
