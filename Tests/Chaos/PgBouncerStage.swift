// The stage with PgBouncer in session mode between the sidecars and a server, each a host. What breaks here is PgBouncer, either
// side of it, and what it hides: it keeps a server's session alive for a client that is gone, and the other way round.

import Clock
import Foundation
import Synchronization
import TestSupport

/// A PgBouncer that can be killed and started again.
final class PgBouncer: Sendable {
    let host: Host
    private let directory: String
    private let process = Mutex<SpawnedProcess?>(nil)

    init(on host: Host, server: Host, directory: String) throws {
        self.host = host
        self.directory = directory
        // auth_type any lets everybody in as the user that the database line names.
        try """
        [databases]
        * = host=\(server.address) port=\(Server.usualPort) user=airflow
        [pgbouncer]
        listen_addr = \(host.address)
        listen_port = 6432
        unix_socket_dir =
        auth_type = any
        pool_mode = session
        default_pool_size = 25
        server_login_retry = 0.5
        """.write(toFile: directory + "/pgbouncer.ini", atomically: false, encoding: .utf8)
        try start()
    }

    func start() throws {
        let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        let fresh = try SpawnedProcess(
            host.enter + nobody + ["/usr/sbin/pgbouncer", directory + "/pgbouncer.ini"], environment: [:],
            output: directory + "/pgbouncer.log")
        process.withLock { $0 = fresh }
    }

    var pid: pid_t? { process.withLock { $0.flatMap { $0.exit == nil ? $0.pid : nil } } }

    func end(_ number: Int32) throws -> SpawnedProcess.Exit {
        guard let running = process.withLock({ $0 }) else { throw Failure("no PgBouncer") }
        running.signal(number)
        return try running.waitForExit(timeout: .seconds(10))
    }

    var kinds: [FaultKind] {
        [
            FaultKind(name: "SIGKILL PgBouncer", weight: 4, aim: .elsewhere, hold: 0...5000, needs: [.only("pool")]) {
                [self] fault in
                let end = try end(SIGKILL)
                fault.last()
                try start()
                return .took("\(end), away for \(fault.hold.milliseconds) ms")
            },
            FaultKind(name: "SIGSTOP PgBouncer", weight: 4, aim: .elsewhere, needs: [.only("pool")]) {
                [self] fault in
                guard let pid else { return .nothing("no PgBouncer") }
                kill(pid, SIGSTOP)
                defer { kill(pid, SIGCONT) }
                fault.last()
                return .counted(processState(pid) == "T" ? 1 : 0, "process stopped for \(fault.hold.milliseconds) ms")
            },
        ]
    }
}

extension Stages {
    static func pgbouncer(_ workplace: Workplace, _ checks: Checks) throws -> Stage {
        let network = try Network(workplace, stage: "b")
        let directory = workplace.directory + "/pgbouncer"
        let server = try Server(on: try network.host("db1", number: 11), directory: directory)
        try server.initialize()
        try server.start()
        let admin = try server.session(database: "postgres")
        for sql in ["CREATE ROLE airflow LOGIN", "CREATE DATABASE chaos OWNER airflow"] { try admin.rows(sql) }
        let pool = try PgBouncer(on: try network.host("pool", number: 13), server: server.host, directory: directory)
        let fleet = try Fleet(
            try nodes(network) { _, _ in "postgresql://airflow@\(pool.host.address):6432/chaos" }, directory: directory,
            options: ["--allow-session-pooler"])
        let behind = FaultKind(name: "partition behind PgBouncer", aim: .elsewhere, needs: [.only("pool link")]) {
            fault in
            let cut = try network.cut(pool.host, [.into, .outOf], peer: server.host)
            defer { try? cut.lift() }
            fault.last()
            return .counted(try cut.packets(), network.hits)
        }
        let common =
            (NetworkFaults.ofNodes(network) + ProcessFaults(fleet: fleet, workplace: workplace, network: network).all)
            .filter {
                [
                    "partition", "flapping", "SIGKILL keeper", "SIGSTOP keeper", "SIGTERM keeper", "SIGKILL command",
                    "starved", "frozen guard",
                ]
                .contains($0.name)
            }
        let kinds =
            pool.kinds + [behind] + common
            + ServerFaults.ofOne {
                if !server.isRunning { try server.start() }
                return server
            }
        return Stage(
            name: "pgbouncer", fleet: fleet,
            kinds: kinds + [ServerFaults.brokenSession(fleet) { try server.session() }],
            heal: {
                if !server.isRunning { try server.start() }
                if pool.pid == nil { try pool.start() }
                try run(
                    fleet.nodes[0].host.enter + [
                        serverBinary("psql"), "-X", "-d", fleet.nodes[0].url, "-c", "SELECT 1",
                    ])
                return BootClock.now()
            },
            close: {
                fleet.close()
                server.destroy()
            })
    }
}
