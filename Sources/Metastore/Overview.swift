// What people want to know about a lease: who leads since when, who stands by, who holds the lock
// and whether that agrees with the record, and what happened before. Read-only, for the command
// line.

import Postgres

/// Read-only questions about one lease.
public struct Overview: Sendable {
    let lease: String

    public init(lease: String) { self.lease = lease }

    /// One row, or none: the record, its ages by the server's clock, and its lock's holder.
    public var record: Query { ShowLease(lease: lease).query }

    /// One row a live member, the leader first.
    public var members: Query { ListMembers(lease: lease).query }

    /// The last leaderships, newest first.
    public func history(limit: Int) -> Query { ListHistory(lease: lease, limit: limit).query }

    /// The names of all leases.
    public static var names: Query { ListLeases().query }
}
