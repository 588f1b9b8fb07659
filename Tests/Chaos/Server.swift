// A PostgreSQL server on a host of a stage: its data on a small file system of its own, which can be full, and its wall clock
// in a file, which can be stepped. PrivatePostgres is for servers that share this machine's network, clock and disk.

import Foundation
import Synchronization
import TestSupport

/// One server, stopped or running.
final class Server: Sendable {
    /// On hosts of their own.
    static let usualPort: UInt16 = 5432
    static let database = "chaos"
    private static let megabytes = 192

    let host: Host
    let port: UInt16
    /// The socket and the log.
    let directory: String
    /// A file system of its own where that is permitted.
    let volume: String
    let ownVolume: Bool
    private let clockFile: String
    private let process = Mutex<SpawnedProcess?>(nil)

    /// Debian's libfaketime; nil where it is not installed.
    static let faketime: String? = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib")) ?? []
        return names.map { "/usr/lib/\($0)/faketime/libfaketime.so.1" }
            .first { FileManager.default.fileExists(atPath: $0) }
    }()

    init(on host: Host, directory: String) throws {
        self.host = host
        port = host.namespace == nil ? try freePort() : Self.usualPort
        self.directory = "\(directory)/\(host.name)"
        volume = self.directory + "/volume"
        clockFile = self.directory + "/clock"
        try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
        let mount = ["mount", "-t", "tmpfs", "-o", "size=\(Self.megabytes)m", "chaos", volume]
        ownVolume = (try? run(mount)) != nil
        try setClock(0)
        try run(["chown", "-R", ServerUser.name, self.directory])
    }

    /// A URL over the Unix socket, which no fault of the network reaches.
    func socketURL(user: String = "postgres", database: String = Server.database) -> String {
        "postgresql://\(user)@\(directory.replacingOccurrences(of: "/", with: "%2F")):\(port)/\(database)"
    }

    /// A session over the Unix socket.
    func session(database: String = Server.database) throws -> DirectSession {
        try DirectSession(socketURL(database: database), applicationName: "chaos")
    }

    private func asServer(_ program: String, _ arguments: [String], clock: Bool = false) -> [String] {
        let faked =
            clock
            ? Self.faketime.map {
                [
                    "env", "LD_PRELOAD=\($0)", "FAKETIME_TIMESTAMP_FILE=\(clockFile)", "FAKETIME_NO_CACHE=1",
                    "FAKETIME_DONT_FAKE_MONOTONIC=1",
                ]
            } ?? [] : []
        return host.enter + ServerUser.prefix + faked + [serverBinary(program)] + arguments
    }

    /// Makes the first server's files.
    func initialize() throws {
        try run(
            asServer(
                "initdb",
                ["-D", volume + "/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
                    + ["--wal-segsize=1"]))
        let hba = ["local all all", "host all all all", "local replication all", "host replication all all"]
        try hba.map { $0 + " trust\n" }.joined()
            .write(toFile: volume + "/data/pg_hba.conf", atomically: false, encoding: .utf8)
    }

    /// Makes this server's files anew, as a standby of `primary`.
    func follow(_ primary: Server, by network: Network) throws {
        let way = try network.way(from: host, to: primary.host, port: primary.port)
        try? FileManager.default.removeItem(atPath: volume + "/data")
        try run(
            asServer(
                "pg_basebackup",
                ["-D", volume + "/data", "-R", "-c", "fast", "--no-sync"]
                    + ["-d", "host=\(way.address) port=\(way.port) user=postgres connect_timeout=5"]))
    }

    /// Starts it and waits until it lets somebody in. A crashed one's left-over processes and locks are waited for.
    func start() throws {
        let settings = [
            "listen_addresses=*", "port=\(port)", "unix_socket_directories=\(directory)", "fsync=off",
            "max_connections=40", "shared_buffers=16MB", "wal_keep_size=24MB", "max_wal_size=32MB",
            "min_wal_size=2MB", "wal_receiver_timeout=5s", "wal_sender_timeout=5s",
            "wal_retrieve_retry_interval=200ms", "log_line_prefix=%m [%p] %e %u %a ", "timezone=UTC",
            "log_timezone=UTC", "track_commit_timestamp=off", "hot_standby=on",
            // In the data, and gone with it; those in /dev/shm outlive a server that is killed.
            "dynamic_shared_memory_type=mmap",
        ]
        var told = 0
        do {
            try eventually("\(host.name) lets somebody in", timeout: .seconds(60)) {
                if !isRunning {
                    told = log.count
                    let fresh = try SpawnedProcess(
                        asServer("postgres", ["-D", volume + "/data"] + settings.flatMap { ["-c", $0] }, clock: true),
                        environment: [
                            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "CHAOS": directory + "/",
                        ],
                        output: directory + "/log")
                    process.withLock { $0 = fresh }
                    try eventually("\(host.name) starts or ends", timeout: .seconds(30)) {
                        !isRunning || (try? session(database: "postgres")) != nil
                    }
                }
                return isRunning && (try? session(database: "postgres")) != nil
            }
        } catch {
            throw Failure("\(error); it says: \(log.dropFirst(told).suffix(500))")
        }
    }

    var isRunning: Bool { process.withLock { $0.map { $0.exit == nil } ?? false } }
    var postmaster: pid_t? { process.withLock { $0?.pid } }

    /// The postmaster and its processes. (They are in groups of their own.)
    var processes: [pid_t] {
        guard isRunning, let postmaster else { return [] }
        return [postmaster] + ProcessTable.children(of: postmaster).map(\.pid)
    }

    /// Signals the postmaster alone: INT is a fast stop, QUIT an immediate one. Waits for its end.
    func end(_ number: Int32) throws {
        guard let running = process.withLock({ $0 }) else { return }
        running.signal(number)
        do { _ = try running.waitForExit(timeout: .seconds(20)) } catch {
            destroy()
            throw error
        }
    }

    /// SIGKILL to all of it. Nothing of it is alive when this returns: as if its machine were switched off.
    func destroy() {
        let all = processes
        for pid in all { kill(pid, SIGKILL) }
        let all2 = postmaster.map { [$0] + all } ?? all
        try? eventually("\(host.name) is gone") {
            _ = isRunning
            return all2.allSatisfy { pid in processState(pid).map { $0 == "Z" || $0 == "X" } ?? true }
        }
        removeSharedMemory()
    }

    /// Killed, it leaves a piece of System V shared memory behind, which only a later run on the same data would remove.
    private func removeSharedMemory() {
        let file = try? String(contentsOfFile: volume + "/data/postmaster.pid", encoding: .utf8)
        let lines = (file ?? "").split(separator: "\n", omittingEmptySubsequences: false)
        // The seventh line: its key and its number. One that is in use is what keeps a new run from starting beside this one.
        guard lines.count > 6, let number = lines[6].split(separator: " ").last.flatMap({ Int32($0) }) else { return }
        var state = shmid_ds()
        if shmctl(number, IPC_STAT, &state) == 0, state.shm_nattch == 0 { shmctl(number, IPC_RMID, nil) }
    }

    /// SIGSTOP or SIGCONT to all of it.
    func signalAll(_ number: Int32) {
        for pid in processes { kill(pid, number) }
    }

    /// Everything it logged.
    var log: String {
        String(decoding: FileManager.default.contents(atPath: directory + "/log") ?? Data(), as: UTF8.self)
    }

    /// Its wall clock from now on, as an offset to the machine's. Its monotonic clocks are not touched.
    func setClock(_ seconds: Int) throws {
        try "\(seconds < 0 ? "" : "+")\(seconds)\n".write(toFile: clockFile, atomically: false, encoding: .utf8)
    }

    /// How far its wall clock is off, in seconds.
    func clockOffset() throws -> Double {
        let theirs = Double(try session().value("SELECT extract(epoch FROM clock_timestamp())") ?? "") ?? 0
        return theirs - Date().timeIntervalSince1970
    }

    /// Fills its file system to the last byte.
    func fillDisk() throws {
        let path = volume + "/filler"
        // Inherited by a sidecar that is started meanwhile, it would stay full as long as that lives.
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Failure("cannot make \(path)") }
        defer { close(file) }
        let zeros = [UInt8](repeating: 0, count: 65536)
        for size in [65536, 512] { while write(file, zeros, size) > 0 {} }
    }

    func freeDisk() { unlink(volume + "/filler") }

    var timeline: String {
        get throws { try session().value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)") ?? "?" }
    }
}

/// A primary and its streaming standby, which change their roles.
final class ReplicatedPair: Sendable {
    let servers: [Server]
    private let network: Network
    private let first = Mutex(true)

    init(_ hosts: [Host], network: Network, directory: String) throws {
        self.network = network
        servers = try hosts.map { try Server(on: $0, directory: directory) }
        try primary.initialize()
        try primary.start()
        let admin = try primary.session(database: "postgres")
        for sql in ["CREATE ROLE airflow LOGIN", "CREATE ROLE crowd LOGIN", "CREATE DATABASE chaos OWNER airflow"] {
            try admin.rows(sql)
        }
        try primary.session().rows("CREATE TABLE marker (word text)")
        try standby.follow(primary, by: network)
        try standby.start()
    }

    var primary: Server { servers[first.withLock { $0 } ? 0 : 1] }
    var standby: Server { servers[first.withLock { $0 } ? 1 : 0] }

    /// The primary. One that a fault which went wrong left down is started, but not beside a standby that was promoted all the
    /// same: that one is the primary then.
    func runningPrimary() throws -> Server {
        if primary.isRunning { return primary }
        if standby.isRunning, try standby.session().value("SELECT pg_is_in_recovery()") == "f" {
            first.withLock { $0.toggle() }
            try rebuild()
        } else {
            try primary.start()
        }
        return primary
    }

    /// Waits until the standby has all that the primary wrote up to now. One that cannot catch up is made anew.
    func catchUp() throws {
        _ = try runningPrimary()
        for attempt in 1...2 {
            do {
                if !standby.isRunning { try standby.start() }
                let until = try primary.session().value("SELECT pg_current_wal_lsn()") ?? ""
                try eventually("the standby catches up", timeout: .seconds(10)) {
                    (try? standby.session().value("SELECT pg_last_wal_replay_lsn() >= '\(until)'")) == "t"
                }
                return
            } catch  where attempt == 1 {
                try rebuild()
            }
        }
    }

    /// Makes the standby anew.
    func rebuild() throws {
        standby.destroy()
        try standby.follow(primary, by: network)
        try standby.start()
    }

    /// Makes the standby the primary. The old primary must be dead, or there would be two.
    func promote() throws {
        guard !primary.isRunning else { throw Failure("\(primary.host.name) still runs") }
        _ = try standby.session().rows("SELECT pg_promote(true, 30)")
        first.withLock { $0.toggle() }
    }
}
