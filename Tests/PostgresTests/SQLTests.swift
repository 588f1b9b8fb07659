// What becomes of interpolated values: parameters with types, never SQL.

import TestSupport
import Testing

@testable import Postgres

@Suite("SQL") struct SQLTests {
    private func values(_ sql: SQL) -> [String?] { sql.parameters.map(\.value) }

    @Test("Values become numbered parameters with their types") func parameters() {
        let (name, number, truth, part) = ("O'Neill", Int64(-7), true, UInt32.max)
        let nothing: Int64? = nil
        let sql: SQL = "SELECT \(name), \(number), \(truth), \(part), \(nothing), \(["a", "b"])"
        #expect(sql.text == "SELECT $1, $2, $3, $4, $5, $6")
        #expect(values(sql) == ["O'Neill", "-7", "t", "4294967295", nil, #"{"a","b"}"#])
        #expect(sql.parameters.map(\.type) == [.text, .bigint, .boolean, .oid, .bigint, .textArray])
    }

    @Test("A literal in an interpolation is a value like any other") func literals() {
        let sql: SQL = "SELECT \("now()"), \(7), \(false)"
        #expect(sql.text == "SELECT $1, $2, $3")
        #expect(values(sql) == ["now()", "7", "f"])
    }

    @Test("The same value twice is two parameters, so that the text never depends on the values") func twice() {
        func statement(_ one: Int64, _ other: Int64, _ none: String?) -> SQL { "\(one) + \(other) + \(one) = \(none)" }
        #expect(statement(1, 1, nil).text == "$1 + $2 + $3 = $4")
        #expect(statement(1, 1, nil).text == statement(1, 2, "3").text)
        #expect(values(statement(1, 2, "3")) == ["1", "2", "1", "3"])
    }

    @Test("A part brings its parameters along, at its place and as often as it is used") func parts() {
        let part: SQL = "b = \("B") AND c = \("C")"
        let sql: SQL = "a = \("A") OR \(part) OR \(part) OR d = \("D")"
        #expect(sql.text == "a = $1 OR b = $2 AND c = $3 OR b = $4 AND c = $5 OR d = $6")
        #expect(values(sql) == ["A", "B", "C", "B", "C", "D"])
        let plain: SQL = "now()"
        #expect(("\(plain)\(plain)" as SQL).text == "now()now()")
        #expect(("\(part)" as SQL) == part)
    }

    @Test("Only what is called unsafe becomes text") func unsafe() {
        let sql: SQL = "SELECT \(unsafe: "epoch") FROM t WHERE x = \("epoch")"
        #expect(sql.text == "SELECT epoch FROM t WHERE x = $1" && values(sql) == ["epoch"])
    }

    @Test("The server takes every value as it is, whatever is in it, and for the type it has") func roundTrip() throws {
        let session = try connected(try Shared.server.get().url)
        let hostile = [
            "", "'; DROP TABLE t; --", "$1", "\\", "\"", "{}", "a,b", "NULL", "\"\u{301}", "\\\u{301}", "ü\n",
        ]
        for (index, text) in hostile.enumerated() {
            let answer = try session.query(
                Query(
                    """
                    SELECT \(text) AS text, (\(hostile))[\(index) + 1] AS element,
                        cardinality(\(hostile)) AS elements, pg_typeof(\(text)) AS type
                    """), limit: .seconds(60))
            #expect(answer.string(0, "text").map { Array($0.utf8) } == Array(text.utf8))
            #expect(answer.string(0, "element").map { Array($0.utf8) } == Array(text.utf8))
            #expect(answer.int64(0, "elements") == Int64(hostile.count) && answer.string(0, "type") == "text")
        }
    }

    @Test("Every type is the one that the server knows by this name") func types() throws {
        let names: [SQL.ValueType: String] = [
            .boolean: "boolean", .bigint: "bigint", .text: "text", .oid: "oid", .textArray: "text[]", .uuid: "uuid",
        ]
        let session = try connected(try Shared.server.get().url)
        for type in SQL.ValueType.allCases {
            let name = try session.query(
                Query("SELECT format_type(\(type.rawValue), NULL) AS name"), limit: .seconds(60))
            #expect(name.string(0, "name") == names[type], "\(type)")
        }
    }
}
