// Leaves the registry.

import Lease
import Postgres

struct Leave: TypedStatement {
    let writer: Writer

    var sql: SQL { "DELETE FROM sidecar.member WHERE lease = \(writer.lease) AND instance = \(writer.instance)" }

    func read(_ result: QueryResult) -> Reply { .done }
}
