// What a statement is: its query, the names of its columns, and the reader that gives the answer a
// type. All three are in one file for each statement (Statements/), so that the query and the
// reader cannot disagree about a column.

import Postgres

/// A query, and what its answer means.
public protocol TypedStatement<Answer>: Sendable {
    associatedtype Answer

    var sql: SQL { get }

    /// What the answer says.
    /// - Throws: when it is the answer to another question, or a value cannot be read. An answer is never guessed.
    func read(_ result: QueryResult) throws(UnreadableReply) -> Answer
}

extension TypedStatement {
    /// The query that is sent.
    public var query: Query { Query(sql) }
}

/// An answer that does not have the expected shape.
public struct UnreadableReply: Error, Equatable, Sendable, CustomStringConvertible {
    /// In one line.
    public let description: String

    /// - Parameter what: what was being read.
    init(what: String) { description = "cannot read \(what) from the database" }

    private init(_ description: String) { self.description = description }

    static let otherQuestion = UnreadableReply(
        "the database's answer does not fit the statement: a proxy or pooler in between may mix answers up")

    /// One lease has several records. Two sidecars could each go by a different one.
    static let severalRecords = UnreadableReply(
        """
        the table sidecar.lease has more than one row for this lease, which its primary key forbids: look at SELECT \
        tableoid::regclass, ctid, * FROM sidecar.lease; DELETE all of its rows but the one with the highest epoch; then ALTER \
        TABLE sidecar.lease ADD PRIMARY KEY (name) if the key is gone, or ALTER TABLE ... NO INHERIT sidecar.lease if \
        another table's rows are among them
        """)
}

/// The names of a statement's columns. The query interpolates them, and the reader asks a `Row` for
/// them.
public protocol ColumnName: RawRepresentable, CaseIterable, Sendable where RawValue == String {}

extension ColumnName {
    static var names: [String] { allCases.map(\.rawValue) }
}

extension SQL.StringInterpolation {
    /// The name of a column.
    mutating func appendInterpolation(_ column: some ColumnName) { appendInterpolation(unsafe: column.rawValue) }
}

/// One row of an answer, read by the names of its columns.
public struct Row<Column: ColumnName> {
    let result: QueryResult
    let index: Int

    /// The value's text; nil is NULL.
    func string(_ column: Column) -> String? { result.string(index, column.rawValue) }
    /// The value as an integer; nil when it is NULL or not an integer.
    func int64(_ column: Column) -> Int64? { result.int64(index, column.rawValue) }
    /// The value as a truth value; nil when it is NULL or neither true nor false.
    func bool(_ column: Column) -> Bool? { result.bool(index, column.rawValue) }
    /// The value as a process id; nil when it is NULL or cannot be one.
    func pid(_ column: Column) -> Int32? { int64(column).flatMap { Int32(exactly: $0) } }
    /// The value as a duration; nil when it is NULL or not a number of milliseconds.
    func milliseconds(_ column: Column) -> Duration? { int64(column).map { .milliseconds($0) } }

    /// The same row, read by other names.
    func by<Other: ColumnName>(_ names: Other.Type) -> Row<Other> { Row<Other>(result: result, index: index) }
}

/// A statement whose answer is exactly one row.
///
/// A proxy that mixes answers up may bring the answer to another question. So the row must have all
/// columns asked for.
public protocol OneRowStatement<Answer>: TypedStatement {
    associatedtype Answer
    associatedtype Column: ColumnName

    /// The names of the columns without which it is not the answer.
    static var demanded: [String] { get }
    /// What several such rows mean.
    static var severalRows: UnreadableReply { get }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Answer
}

extension OneRowStatement {
    public static var demanded: [String] { Column.names }
    public static var severalRows: UnreadableReply { .otherQuestion }

    public func read(_ result: QueryResult) throws(UnreadableReply) -> Answer {
        guard !result.rows.isEmpty, Self.demanded.allSatisfy(result.columns.contains) else { throw .otherQuestion }
        guard result.rows.count == 1 else { throw Self.severalRows }
        return try read(Row(result: result, index: 0))
    }
}

/// A statement whose answer is any number of rows, one for each element.
public protocol ListStatement<Element>: TypedStatement where Answer == [Element] {
    associatedtype Element
    associatedtype Column: ColumnName

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Element
}

extension ListStatement {
    public func read(_ result: QueryResult) throws(UnreadableReply) -> [Element] {
        guard Column.names.allSatisfy(result.columns.contains) else { throw .otherQuestion }
        var elements: [Element] = []
        for index in result.rows.indices { elements.append(try read(Row(result: result, index: index))) }
        return elements
    }
}

/// The value, or an error that says what could not be read.
func need<Value>(_ value: Value?, _ what: String) throws(UnreadableReply) -> Value {
    guard let value else { throw UnreadableReply(what: what) }
    return value
}
