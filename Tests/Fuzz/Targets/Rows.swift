// Results as libpq would hand them over, made with its own means: values are bytes that need not be UTF-8, any may be NULL.

import CLibPQ

@testable import Postgres

/// A result of the given columns; a value of nil is NULL.
func libpqResult(_ columns: [String], _ rows: [[[UInt8]?]]) -> QueryResult {
    let result = PQmakeEmptyPGresult(nil, PGRES_TUPLES_OK)
    defer { PQclear(result) }
    guard let result else { fatalError("out of memory") }
    withCStrings(columns) { names in
        var attributes = columns.indices.map { index in
            PGresAttDesc(
                name: UnsafeMutablePointer(mutating: names?[index]), tableid: 0, columnid: 0, format: 0, typid: 25,
                typlen: -1, atttypmod: -1)
        }
        demand(PQsetResultAttrs(result, Int32(columns.count), &attributes) == 1, "libpq takes \(columns)")
    }
    for (row, values) in rows.enumerated() {
        for (column, value) in values.enumerated() {
            var bytes = (value ?? []).map { CChar(bitPattern: $0) }
            let length = value.map { Int32($0.count) } ?? -1
            demand(PQsetvalue(result, Int32(row), Int32(column), &bytes, length) == 1, "libpq takes \(bytes)")
        }
    }
    return QueryResult(result: result)
}

extension Bytes {
    /// A value as a server may send it: NULL, a truth value, a number, or any bytes but NUL.
    mutating func value() -> [UInt8]? {
        switch choice(of: 8) {
        case 0: nil
        case 1: Array("t".utf8)
        case 2: Array("f".utf8)
        case 3...5: Array(String(number()).utf8)
        default: bytes().filter { $0 != 0 }
        }
    }
}
