// The claim's own statement, for a lease that does not exist. It can take no lease, and it meets
// everything that PostgreSQL checks before it looks at rows: rights on tables and functions, the
// replica identity, missing columns, names that the database's encoding cannot store. So a standby
// knows in advance whether its claims would be refused.

import Lease
import Postgres

struct Rehearse: TypedStatement {
    let claim: Claim

    /// No sidecar can have written the record that this claims to have seen, because no record may
    /// have such an epoch. So the claim finds no row, whatever is in the table, and gives the lock
    /// back in the same statement (R4). The lock is not that of the lease either.
    init(_ writer: Writer) {
        let never = Record(
            epoch: Epoch(-1), beat: -1, holder: nil, node: nil, ttl: writer.timing.ttl,
            renewInterval: writer.timing.renewInterval, released: false, suspended: false, server: ServerID(0),
            backend: nil)
        claim = Claim(writer: writer.understudy, seen: never, above: Epoch(0), lock: .needed)
    }

    var sql: SQL { claim.sql }

    /// The server's error, or nothing.
    func read(_ result: QueryResult) -> Reply { .done }
}

extension Writer {
    /// The same sidecar, but with the name of a lease that does not exist, and so with a lock that
    /// no lease uses: the name of a lease has no blanks.
    var understudy: Writer {
        var writer = self
        writer.identity = Identity(
            lease: "rehearsal of \(identity.instance)", node: identity.node, instance: identity.instance)
        return writer
    }
}
