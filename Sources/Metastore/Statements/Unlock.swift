// Gives up the lock after a loss, or after a claim that failed.

import Lease
import Postgres

struct Unlock: TypedStatement {
    var sql: SQL { "SELECT pg_advisory_unlock_all()" }

    func read(_ result: QueryResult) -> Reply { .done }
}
