// Announces a changed record on the channel that standbys listen on (Listen). The payload is the
// lease's name.

import Lease
import Postgres

struct Notify: TypedStatement {
    let lease: String

    var sql: SQL { "SELECT pg_notify(\(Statements.channel), \(lease))" }

    func read(_ result: QueryResult) -> Reply { .done }
}
