// A real PgBouncer in between: in transaction mode it must be refused, in session mode accepted when asked for. PgBouncer
// answers the connection's start-up with a process id of its own making, which is how it is found out.

import Clock
import Foundation
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

/// One PgBouncer in front of a private PostgreSQL.
final class Pooler {
    let port: UInt16
    private let directory: String
    private let process = Process()

    init(_ server: PrivatePostgres, mode: String) throws {
        directory = try makeTemporaryDirectory("sidecar-pooler")
        port = try freePort()
        let configuration = """
            [databases]
            * = host=127.0.0.1 port=\(server.port)
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = any
            pool_mode = \(mode)
            ignore_startup_parameters = extra_float_digits
            """
        // auth_type any logs everybody in as the user that the database line names.
        let named = configuration.replacing("port=\(server.port)", with: "port=\(server.port) user=postgres")
        try named.write(toFile: directory + "/pgbouncer.ini", atomically: true, encoding: .utf8)
        chmod(directory, 0o755)
        let asRoot = getuid() == 0
        process.executableURL = URL(fileURLWithPath: asRoot ? "/usr/bin/setpriv" : "/usr/sbin/pgbouncer")
        process.arguments =
            (asRoot
                ? [
                    "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL",
                    "/usr/sbin/pgbouncer",
                ]
                : []) + [directory + "/pgbouncer.ini"]
        process.standardError = FileHandle(forWritingAtPath: "/dev/null")
        process.standardOutput = FileHandle(forWritingAtPath: "/dev/null")
        try process.run()
        let url = url
        try eventually("PgBouncer lets somebody in") {
            let session = Session(settings: try ConnectionSettings(url), applicationName: "test")
            do {
                try session.connectAndWait()
                return true
            } catch {
                return false
            }
        }
    }

    var url: String { "postgresql://postgres@127.0.0.1:\(port)/postgres" }

    func remove() {
        // Not SIGTERM: Foundation starts processes with the starting thread's signal mask, which may block it.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try? FileManager.default.removeItem(atPath: directory)
    }
}

@Suite("PgBouncer in between", .serialized) struct PoolerTests {
    private func prepare(_ pooler: Pooler, allow: Bool) throws -> SessionFacts {
        let session = Session(settings: try ConnectionSettings(pooler.url), applicationName: "sidecar-keeper:test")
        try session.connectAndWait()
        var preparation = Preparation(
            purpose: .lead(callLimit: .seconds(20), idleLimit: .seconds(60)),
            protocolPID: try #require(session.backendPID), allowSessionPooler: allow)
        var query = preparation.first
        while true {
            switch preparation.next(after: try session.query(query, limit: .seconds(20))) {
            case .query(let next): query = next
            case .ready(let facts): return facts
            case .refuse(let error): throw error
            }
        }
    }

    @Test(
        "It is refused in both modes unless allowed; in session mode it can be allowed",
        arguments: ["transaction", "session"])
    func refused(mode: String) throws {
        let server = try PrivatePostgres.started()
        defer { server.remove() }
        let pooler = try Pooler(server, mode: mode)
        defer { pooler.remove() }
        #expect(throws: PreparationError.pooler) { try prepare(pooler, allow: false) }
        if mode == "session" { #expect(try prepare(pooler, allow: true).schemaVersion == Schema.current) }
    }
}
