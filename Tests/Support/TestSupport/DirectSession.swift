// A plain blocking libpq session for tests: looks into the database, and misbehaves in it, independently of the code
// under test. Use it from a thread of your own.

import CLibPQ
import Glibc

/// One session.
public final class DirectSession {
    /// What the server or libpq said.
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    private let connection: OpaquePointer

    /// Connects, within two seconds a host.
    public init(_ url: String, applicationName: String = "test") throws {
        let settings = ["dbname": url, "application_name": applicationName, "connect_timeout": "2"]
        let keys: [UnsafePointer<CChar>?] = settings.keys.map { UnsafePointer(strdup($0)) } + [nil]
        let values: [UnsafePointer<CChar>?] = settings.values.map { UnsafePointer(strdup($0)) } + [nil]
        defer { for pointer in keys + values { free(UnsafeMutablePointer(mutating: pointer)) } }
        let opened = PQconnectdbParams(keys, values, 1)
        guard let opened else { throw Failure(description: "out of memory") }
        connection = opened
        // From here on deinit cleans up, also when this throws.
        guard PQstatus(opened) == CONNECTION_OK else {
            throw Failure(description: String(cString: PQerrorMessage(opened)))
        }
    }

    deinit { PQfinish(connection) }

    /// The pid of its backend.
    public var backend: Int { Int(PQbackendPID(connection)) }

    /// Runs one statement; every row as text, NULL as nil.
    @discardableResult
    public func rows(_ sql: String) throws -> [[String?]] {
        let result = PQexec(connection, sql)
        defer { PQclear(result) }
        switch PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK: break
        default: throw Failure(description: "\(sql): \(String(cString: PQerrorMessage(connection)))")
        }
        return (0..<PQntuples(result)).map { row in
            (0..<PQnfields(result)).map { column in
                PQgetisnull(result, row, column) == 1 ? nil : String(cString: PQgetvalue(result, row, column))
            }
        }
    }

    /// Sends one statement and does not wait for its answer.
    public func send(_ sql: String) throws {
        guard PQsendQuery(connection, sql) == 1 else {
            throw Failure(description: "\(sql): \(String(cString: PQerrorMessage(connection)))")
        }
    }

    /// The first column of the first row.
    public func value(_ sql: String) throws -> String? { try rows(sql).first?.first ?? nil }
}
