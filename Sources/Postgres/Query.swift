// What is asked of a session and what comes back: statements with bound parameters, scripts, and
// their results as text.

/// One statement, or one script of several statements.
public enum Query: Sendable, Equatable {
    /// One statement, with its parameters apart from it (extended protocol).
    case statement(SQL)
    /// Statements separated by semicolons, without parameters (simple protocol). The server runs
    /// them in one transaction unless they contain transaction commands. The result is the last
    /// statement's, or the first error.
    case script(String)

    /// One statement.
    public init(_ sql: SQL) { self = .statement(sql) }
}

/// What a query returned: every value in PostgreSQL's text form.
public struct QueryResult: Sendable, Equatable {
    /// The columns' names, in order.
    public let columns: [String]
    /// The rows; nil is NULL.
    public let rows: [[String?]]
    /// Rows inserted, updated, deleted or selected; nil for statements that do not count.
    public let affectedRows: Int?

    /// A result made by hand, for tests of code that reads one.
    public init(columns: [String], rows: [[String?]], affectedRows: Int?) {
        self.columns = columns
        self.rows = rows
        self.affectedRows = affectedRows
    }

    /// The value's text; nil is NULL. Also nil if there is no such row or column, because the answer of a server or a
    /// proxy must not be able to end the process. A caller that must tell this from NULL checks `columns` and `rows`
    /// first.
    public func string(_ row: Int, _ column: String) -> String? {
        guard rows.indices.contains(row), let index = columns.firstIndex(of: column),
            rows[row].indices.contains(index)
        else { return nil }
        return rows[row][index]
    }

    /// The value as an integer (int2, int4, int8); nil if it is NULL or not an integer.
    public func int64(_ row: Int, _ column: String) -> Int64? { string(row, column).flatMap { Int64($0) } }

    /// The value as a truth value; nil if it is NULL or not a truth value.
    public func bool(_ row: Int, _ column: String) -> Bool? {
        switch string(row, column) {
        case "t": true
        case "f": false
        default: nil
        }
    }
}
