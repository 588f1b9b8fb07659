// SQL in which a value cannot be mistaken for SQL. An interpolated value becomes a bound parameter
// with its type. An interpolated `SQL` becomes a part, with its own parameters. Only `\(unsafe:)`
// puts a text into the statement as it is.

/// One statement, or a part of one, with its parameters.
///
///     let sql: SQL = "SELECT epoch FROM sidecar.lease WHERE name = \(lease) AND beat > \(beat)"
///     // sql.text == "SELECT epoch FROM sidecar.lease WHERE name = $1 AND beat > $2"
///
/// The text depends on the literals only, never on the values: a statement has the same text every
/// time. This is why a value that is interpolated twice becomes two parameters, even if it is the
/// same value.
public struct SQL: Sendable, Equatable {
    /// A value that is sent apart from the text.
    public struct Parameter: Sendable, Equatable {
        public let type: ValueType
        /// The value in PostgreSQL's text form; nil is NULL.
        public let value: String?
    }

    /// The types that a parameter can have. The raw value is the type's OID, which is the same in
    /// every server (PostgreSQL, `pg_type.dat`).
    public enum ValueType: UInt32, Sendable, CaseIterable {
        case boolean = 16
        case bigint = 20
        case text = 25
        case oid = 26
        case textArray = 1009
        case uuid = 2950
    }

    /// The text around the parameters: always one piece more than there are parameters.
    private var pieces: [String] = [""]
    /// The values of `$1`, `$2` and so on.
    public private(set) var parameters: [Parameter] = []

    /// The text that the server receives. The parameters are numbered in the order of their interpolation.
    public var text: String {
        var text = pieces[0]
        for index in parameters.indices { text += "$\(index + 1)" + pieces[index + 1] }
        return text
    }

    private mutating func append(_ text: String) { pieces[pieces.count - 1] += text }

    private mutating func append(_ parameter: Parameter) {
        parameters.append(parameter)
        pieces.append("")
    }

    private mutating func append(_ part: SQL) {
        append(part.pieces[0])
        pieces += part.pieces.dropFirst()
        parameters += part.parameters
    }
}

extension SQL: ExpressibleByStringInterpolation {
    public init(stringLiteral text: String) { append(text) }

    public init(stringInterpolation: StringInterpolation) { self = stringInterpolation.sql }

    public struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var sql = SQL()

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ literal: String) { sql.append(literal) }

        /// A value: becomes a parameter.
        public mutating func appendInterpolation<Value: SQLValue>(_ value: Value) {
            sql.append(Parameter(type: Value.sqlType, value: value.sqlText))
        }

        /// A value, or NULL: becomes a parameter either way.
        public mutating func appendInterpolation<Value: SQLValue>(_ value: Value?) {
            sql.append(Parameter(type: Value.sqlType, value: value?.sqlText))
        }

        /// A part of the statement: its text becomes text, its parameters become parameters.
        public mutating func appendInterpolation(_ part: SQL) { sql.append(part) }

        /// A text that becomes part of the statement as it is. Only for names and words from this
        /// program's own source, never for anything that comes from outside.
        public mutating func appendInterpolation(unsafe text: String) { sql.append(text) }
    }
}

/// A value that can be a parameter.
public protocol SQLValue {
    /// The type that the server takes it for.
    static var sqlType: SQL.ValueType { get }
    /// The value in PostgreSQL's text form.
    var sqlText: String { get }
}

extension String: SQLValue {
    public static var sqlType: SQL.ValueType { .text }
    public var sqlText: String { self }
}

extension Bool: SQLValue {
    public static var sqlType: SQL.ValueType { .boolean }
    public var sqlText: String { self ? "t" : "f" }
}

extension Int64: SQLValue {
    public static var sqlType: SQL.ValueType { .bigint }
    public var sqlText: String { String(self) }
}

extension Int: SQLValue {
    public static var sqlType: SQL.ValueType { .bigint }
    public var sqlText: String { String(self) }
}

extension UInt32: SQLValue {
    public static var sqlType: SQL.ValueType { .oid }
    public var sqlText: String { String(self) }
}

extension [String]: SQLValue {
    public static var sqlType: SQL.ValueType { .textArray }

    /// Every element is quoted, so that none can end the array, start another one or be read as
    /// NULL.
    public var sqlText: String {
        var array = "{".unicodeScalars
        for (index, element) in enumerated() {
            array += index == 0 ? "\"".unicodeScalars : ",\"".unicodeScalars
            // Scalar by scalar: a quotation mark with an accent behind it is another Character.
            for scalar in element.unicodeScalars {
                if scalar == "\"" || scalar == "\\" { array.append("\\") }
                array.append(scalar)
            }
            array.append("\"")
        }
        array.append("}")
        return String(array)
    }
}
