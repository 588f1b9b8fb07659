// The names of all leases, for the answer to a question about a lease that does not exist.

import Postgres

/// Reads the names of all leases, in order.
public struct ListLeases: ListStatement {
    public enum Column: String, ColumnName { case name }

    public init() {}

    public var sql: SQL { "SELECT \(Column.name) FROM sidecar.lease ORDER BY name" }

    public func read(_ row: Row<Column>) throws(UnreadableReply) -> String { try need(row.string(.name), "name") }
}
