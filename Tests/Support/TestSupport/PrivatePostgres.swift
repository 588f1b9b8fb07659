// A PostgreSQL of a test's own: made in a fresh temporary directory, on a free port, gone when the test is.
// A supervising shell is the postmaster's parent; it reads orders from a socket, and when that closes, however the test
// process ended, it kills the postmaster and removes the directory.

import Foundation
import Synchronization

/// One private PostgreSQL server. Safe to use from several tests at once.
public final class PrivatePostgres: Sendable {
    /// How the server is told to stop (pg_ctl(1)).
    public enum StopMode: String, Sendable {
        /// Disconnects the clients and shuts down cleanly.
        case fast = "INT"
        /// Aborts as a crash would; the next start recovers.
        case immediate = "QUIT"
    }

    /// What went wrong with the server, with the end of its log.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// What starts the server needs besides its directory.
    struct State {
        /// The TCP port, and the number in the socket's name. Changes only when a start finds it taken.
        var port: UInt16
        /// The postmaster while it runs.
        var postmaster: pid_t?
        /// Our end of the supervisor's socket and its process; nil once removed.
        var supervisor: (socket: Int32, pid: pid_t)?
    }

    /// The server's directory: data in `data`, the log in `log`, the socket right in it.
    public let directory: String
    private let maxConnections: Int
    private let configuration: [String: String]
    private let state: Mutex<State>

    /// Makes the server's files; `start()` starts it.
    ///
    /// - Parameters:
    ///   - maxConnections: `max_connections`; a standby has at least its primary's, or it would not start.
    ///   - settings: further lines of postgresql.conf; values are quoted here.
    ///   - hba: the lines of pg_hba.conf, tried first to last. By default everybody on this machine is trusted.
    ///   - primary: when given, this server is made a streaming standby of that one, which must be running.
    public convenience init(
        maxConnections: Int = 50, settings: [String: String] = [:],
        hba: [String] = ["local all all trust", "host all all samehost trust", "local replication all trust"],
        standbyOf primary: PrivatePostgres? = nil
    ) throws {
        try self.init(
            from: primary.map { .baseBackup($0) } ?? .copy(try Self.template.get()), maxConnections: maxConnections,
            settings: settings, hba: hba)
    }

    /// Where a server's files come from.
    private enum Origin {
        case initdb
        case copy(PrivatePostgres)
        case baseBackup(PrivatePostgres)
    }

    /// What initdb makes, which takes a second of a processor; all others are copies. Never started.
    private static let template = Result {
        try PrivatePostgres(from: .initdb, maxConnections: 1, settings: [:], hba: [])
    }

    private init(from origin: Origin, maxConnections: Int, settings: [String: String], hba: [String]) throws {
        let directory = try makeTemporaryDirectory("sidecar-postgres")
        self.directory = directory
        let connections =
            if case .baseBackup(let primary) = origin { max(maxConnections, primary.maxConnections) } else {
                maxConnections
            }
        self.maxConnections = connections
        configuration = [
            "max_connections": "\(connections)", "fsync": "off", "listen_addresses": "127.0.0.1",
            "unix_socket_directories": directory, "shared_buffers": "16MB", "log_line_prefix": "%m [%p] %a ",
            "timezone": "UTC", "log_timezone": "UTC",
            // In the data directory, and gone with it; those in /dev/shm outlive a server that is killed.
            "dynamic_shared_memory_type": "mmap",
        ].merging(settings) { $1 }
        let (ours, theirs) = try socketPair()
        defer { close(theirs) }
        // From here on every property is set, so that deinit cleans up whatever fails below.
        state = Mutex(State(port: try freePort(), postmaster: nil, supervisor: nil))
        let supervisor = try startSupervisor(directory: directory, socket: theirs)
        state.withLock { $0.supervisor = (ours, supervisor) }
        let data = directory + "/data"
        if geteuid() == 0 { try run(["chown", ServerUser.name, directory]) }
        switch origin {
        case .initdb:
            try run(
                ServerUser.prefix + [
                    serverBinary("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                    "--no-sync",
                ])
        case .copy(let template):
            try run(ServerUser.prefix + ["cp", "-a", template.directory + "/data", data])
        case .baseBackup(let primary):
            try run(
                ServerUser.prefix + [
                    serverBinary("pg_basebackup"), "-D", data, "-R", "-d", primary.socketURL(), "-c", "fast",
                    "--no-sync",
                ])
        }
        try write(hba.joined(separator: "\n") + "\n", to: "data/pg_hba.conf")
    }

    /// A server that is already running.
    public static func started(maxConnections: Int = 50, settings: [String: String] = [:]) throws -> PrivatePostgres {
        let server = try PrivatePostgres(maxConnections: maxConnections, settings: settings)
        try server.start()
        return server
    }

    deinit { remove() }

    /// The TCP port on 127.0.0.1.
    public var port: UInt16 { state.withLock { $0.port } }
    /// The postmaster's process, while it runs.
    public var postmaster: pid_t? { state.withLock { $0.postmaster } }
    /// The server over TCP, as its superuser.
    public var url: String { url() }
    /// The server over its Unix socket, as its superuser.
    public var socketURL: String { socketURL() }

    /// The server over TCP.
    public func url(user: String = "postgres", database: String = "postgres") -> String {
        "postgresql://\(user)@127.0.0.1:\(port)/\(database)"
    }

    /// The server over its Unix socket.
    public func socketURL(user: String = "postgres", database: String = "postgres") -> String {
        let host = directory.replacingOccurrences(of: "/", with: "%2F")
        return "postgresql://\(user)@\(host):\(port)/\(database)"
    }

    /// Starts the server and waits until it accepts connections. A port that somebody else took meanwhile is replaced, and a
    /// killed one's last processes are waited for.
    public func start() throws {
        try state.withLock { state in
            guard state.postmaster == nil else { return }
            for attempt in 1... {
                try configure(port: state.port)
                let told = log.count
                let pid = try order("START", state)
                guard let pid = pid_t(pid) else { throw Failure(description: "supervisor said '\(pid)'") }
                do {
                    try waitUntilReady(pid)
                    state.postmaster = pid
                    return
                } catch {
                    kill(pid, SIGKILL)
                    _ = try order("WAIT", state)
                    let said = log.dropFirst(told)
                    if attempt < 5, said.contains("could not bind") {
                        state.port = try freePort()
                    } else if attempt < 100, said.contains("pre-existing shared memory block") {
                        usleep(100_000)
                    } else {
                        throw error
                    }
                }
            }
        }
    }

    /// Stops the server and waits until it is gone, also when it was stopped by `signal(SIGSTOP)` or died by itself.
    public func stop(_ mode: StopMode = .fast) throws {
        try state.withLock { state in
            guard let pid = state.postmaster else { return }
            send(SIGCONT, postmaster: pid)
            kill(pid, mode == .fast ? SIGINT : SIGQUIT)
            _ = try order("WAIT", state)
            state.postmaster = nil
        }
    }

    /// Stops and starts the server, on the same port where it is still free.
    public func restart(_ mode: StopMode = .fast) throws {
        try stop(mode)
        try start()
    }

    /// Makes a standby a primary, and waits until it is one.
    public func promote() throws { _ = try psql("SELECT pg_promote(true, 60)") }

    /// Sends a signal to the postmaster and to all its processes: `SIGSTOP` freezes the whole server, `SIGCONT` thaws it. After
    /// `SIGKILL` all are dead when this returns.
    public func signal(_ number: Int32) {
        state.withLock { if let pid = $0.postmaster { send(number, postmaster: pid) } }
    }

    /// Runs SQL as the superuser through psql(1) and returns what it prints: unaligned, tuples only, no last newline.
    public func psql(_ sql: String, database: String = "postgres") throws -> String {
        try run([
            serverBinary("psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", socketURL(database: database),
            "-c", sql,
        ])
    }

    /// Writes a file below the server's directory that the server can read and only it (keys, pg_hba.conf).
    public func write(_ text: String, to name: String) throws {
        let path = directory + "/" + name
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        guard chmod(path, 0o600) == 0, geteuid() != 0 || chown(path, ServerUser.ids.0, ServerUser.ids.1) == 0 else {
            throw Failure(description: "cannot hand \(path) to the server: errno \(errno)")
        }
    }

    private var log: String { (try? String(contentsOfFile: directory + "/log", encoding: .utf8)) ?? "" }

    /// The end of the server's log.
    public func logTail() -> String { String(log.suffix(2000)) }

    /// Ends the server at once and removes its directory. Nothing else may be called afterwards.
    public func remove() {
        state.withLock { state in
            guard let (socket, supervisor) = state.supervisor else { return }
            // End of file is the supervisor's order to clean up; its own end closes its side.
            shutdown(socket, Int32(SHUT_WR))
            _ = receiveLine(socket)
            waitpid(supervisor, nil, 0)
            close(socket)
            state = State(port: state.port, postmaster: nil, supervisor: nil)
        }
    }

    /// Writes what `start` needs into the file that overrides postgresql.conf and that a base backup does not bring.
    private func configure(port: UInt16) throws {
        let lines = configuration.merging(["port": "\(port)"]) { $1 }.map { name, value in
            "\(name) = '\(value.replacingOccurrences(of: "'", with: "''"))'"
        }
        try write(lines.sorted().joined(separator: "\n") + "\n", to: "data/postgresql.conf")
    }

    private func waitUntilReady(_ pid: pid_t) throws {
        try eventually("PostgreSQL in \(directory) accepts connections", timeout: .seconds(60)) {
            guard processState(pid) != "Z" else {
                throw Failure(description: "PostgreSQL did not start: \(logTail())")
            }
            // postmaster.pid's eighth line says so; a left-over of a crashed run has another pid in its first.
            let lines = ((try? String(contentsOfFile: directory + "/data/postmaster.pid", encoding: .utf8)) ?? "")
                .split(separator: "\n", omittingEmptySubsequences: false)
            guard lines.count >= 8, lines[0] == "\(pid)" else { return false }
            return ["ready", "standby"].contains(lines[7].trimmingCharacters(in: .whitespaces))
        }
    }

    /// Gives the supervisor an order and returns its one-line answer.
    private func order(_ word: String, _ state: State) throws -> String {
        guard let socket = state.supervisor?.socket else { throw Failure(description: "this server was removed") }
        sendLine(word, socket)
        guard let line = receiveLine(socket) else {
            throw Failure(description: "PostgreSQL's supervisor did not answer \(word): \(logTail())")
        }
        return line
    }
}
