// One host of the stage with Patroni: Patroni and its PostgreSQL in a pid namespace, as in a container, and a witness of when
// that PostgreSQL accepted writes.

import Clock
import Foundation
import Synchronization
import TestSupport

/// One host's Patroni with its PostgreSQL.
final class PatroniNode: Sendable, CustomStringConvertible {
    static let ttl = Duration.seconds(5)
    let host: Host
    let directory: String
    let configuration: String
    private let process = Mutex<SpawnedProcess?>(nil)
    private let witness: Mutex<Witness>

    /// What the witness saw: when PostgreSQL accepted writes.
    struct Witness {
        var spans: [ClosedRange<Instant>] = []
        var writable = false
        var closed = false
    }

    init(on host: Host, etcd: Host, directory: String) throws {
        self.host = host
        self.directory = "\(directory)/\(host.name)"
        configuration = self.directory + "/patroni.yml"
        witness = Mutex(Witness())
        try FileManager.default.createDirectory(atPath: self.directory, withIntermediateDirectories: true)
        // The shortest times that keep Patroni's rule: loop_wait + 2 * retry_timeout <= ttl.
        let text = """
            scope: chaos
            name: \(host.name)
            restapi: {listen: "\(host.address):8008", connect_address: "\(host.address):8008"}
            etcd3: {host: "\(etcd.address):2379"}
            bootstrap:
              dcs:
                ttl: \(Self.ttl.components.seconds)
                loop_wait: 1
                retry_timeout: 2
                postgresql: {use_pg_rewind: true}
              initdb: [{encoding: UTF8}, {locale: C}, {auth: trust}, no-sync, {wal-segsize: "1"}]
            postgresql:
              listen: "0.0.0.0:\(Server.usualPort)"
              connect_address: "\(host.address):\(Server.usualPort)"
              data_dir: \(self.directory)/data
              bin_dir: \((serverBinary("postgres") as NSString).deletingLastPathComponent)
              use_unix_socket: true
              create_replica_methods: [basebackup]
              basebackup: [{checkpoint: fast}, no-sync]
              authentication: {superuser: {username: postgres}, replication: {username: postgres}}
              pg_hba: [local all all trust, host all all all trust, host replication all all trust, local replication all trust]
              parameters:
                unix_socket_directories: \(self.directory)
                fsync: off
                dynamic_shared_memory_type: mmap
                max_connections: 40
                shared_buffers: 16MB
                wal_keep_size: 64MB
            """
        try text.write(toFile: configuration, atomically: false, encoding: .utf8)
        try run(["chown", "-R", ServerUser.name, self.directory])
        try start()
        startThread("witness \(host.name)") { [self] in look() }
    }

    /// Starts Patroni. It starts PostgreSQL.
    func start() throws {
        // A number of the namespace before. PostgreSQL takes it for its own still running if it finds some process, or a
        // thread of Patroni's, of that number now, and never starts.
        try? FileManager.default.removeItem(atPath: directory + "/data/postmaster.pid")
        // A Debian package's Patroni is a script; HOME must be somewhere.
        let fresh = try SpawnedProcess(
            // Its own IPC: the shared memory of a server that was killed is gone with the container.
            host.enter + ["unshare", "--pid", "--ipc", "--fork", "--mount-proc", "--kill-child"] + ServerUser.prefix
                + ["patroni", configuration],
            environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": directory],
            output: directory + "/patroni.log")
        process.withLock { $0 = fresh }
    }

    /// Asks PostgreSQL ten times a second whether it accepts writes.
    private func look() {
        var session: DirectSession?
        var last: Instant?
        while !witness.withLock({ $0.closed }) {
            if session == nil { session = try? self.session(database: "postgres") }
            let answer = try? session?.value("SELECT pg_is_in_recovery()")
            if answer == nil { session = nil }
            let now = BootClock.now()
            witness.withLock { witness in
                witness.writable = answer == "f"
                if answer == "f" {
                    // What lies between two answers counts unless it was frozen then.
                    let from = last.flatMap { now.since($0) < .milliseconds(500) ? $0 : nil } ?? now
                    witness.spans.append(from...now)
                }
            }
            last = answer == "f" ? now : nil
            usleep(100_000)
        }
    }

    /// What is seen of it from outside.
    var description: String {
        let postgres = postmaster.map { "a PostgreSQL \(processState($0) ?? "?")" } ?? "no PostgreSQL"
        return "\(host.name) \(writable ? "takes writes" : "takes no writes"), \(postgres)"
    }

    /// The end of what Patroni and its PostgreSQL said.
    var log: String { String((process.withLock { $0 }?.output ?? "").suffix(8000)) }

    var writable: Bool { witness.withLock { $0.writable } }
    var spans: [ClosedRange<Instant>] { witness.withLock { $0.spans } }
    /// Since when it has accepted writes without a break.
    var writableSince: Instant? {
        var since: Instant?
        for span in spans.reversed() {
            guard since.map({ $0 == span.upperBound }) ?? true else { break }
            since = span.lowerBound
        }
        return since
    }

    func session(database: String = Server.database) throws -> DirectSession {
        let path = directory.replacingOccurrences(of: "/", with: "%2F")
        return try DirectSession(
            "postgresql://postgres@\(path):\(Server.usualPort)/\(database)", applicationName: "chaos")
    }

    /// Nobody has started the container since it ended.
    var isOff: Bool { process.withLock { $0.map { $0.exit != nil } ?? true } }

    /// The container's first process.
    var initial: pid_t? {
        guard let outer = process.withLock({ $0 }), outer.exit == nil else { return nil }
        return ProcessTable.children(of: outer.pid).first { $0.state != "Z" }?.pid
    }

    /// Everything in the container whose name begins so.
    func processes(_ name: String) -> [pid_t] {
        guard let initial else { return [] }
        let all = ProcessTable.all()
        var tree: Set<pid_t> = [initial]
        for _ in 1...4 { for process in all where tree.contains(process.parent) { tree.insert(process.pid) } }
        return all.filter { tree.contains($0.pid) && $0.name.hasPrefix(name) && $0.state != "Z" }.map(\.pid)
    }

    /// PostgreSQL's first process.
    var postmaster: pid_t? {
        let postgres = processes("postgres")
        return postgres.first { pid in RunningProcess(pid).map { !postgres.contains($0.parent) } ?? false }
    }

    /// Ends the container as its machine would: all at once. Waits for its end.
    func destroy() throws {
        guard let outer = process.withLock({ $0 }), let initial else { return }
        kill(initial, SIGKILL)
        _ = try outer.waitForExit(timeout: .seconds(20))
    }

    /// Ends the container, throws its data away and starts it again.
    func renew() throws {
        try destroy()
        try? FileManager.default.removeItem(atPath: directory + "/data")
        try start()
    }

    func close() {
        witness.withLock { $0.closed = true }
        try? destroy()
    }
}
