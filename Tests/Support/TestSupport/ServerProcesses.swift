// What PrivatePostgres needs from the operating system: an unprivileged user, the server's programs, a free port, and
// the supervising shell. PostgreSQL refuses to run as root, and containers usually are.

import Foundation

/// The user that runs the server when the tests run as root: `postgres` where it exists, else `nobody`.
public enum ServerUser {
    /// Its name and numeric ids.
    public static let name = getpwnam("postgres") != nil ? "postgres" : "nobody"
    static let ids: (uid_t, gid_t) = getpwnam(name).map { ($0.pointee.pw_uid, $0.pointee.pw_gid) } ?? (65534, 65534)
    /// What to put before a command so that it runs as that user.
    public static let prefix: [String] =
        geteuid() == 0
        ? ["setpriv", "--reuid=\(ids.0)", "--regid=\(ids.1)", "--clear-groups"] : []
}

/// The path of one of PostgreSQL's programs: Debian's newest version, else whatever PATH finds.
public func serverBinary(_ name: String) -> String {
    let base = "/usr/lib/postgresql"
    let versions = ((try? FileManager.default.contentsOfDirectory(atPath: base)) ?? [])
        .filter { FileManager.default.isExecutableFile(atPath: "\(base)/\($0)/bin/\(name)") }
    guard let newest = versions.max(by: { (Int($0) ?? 0) < (Int($1) ?? 0) }) else { return name }
    return "\(base)/\(newest)/bin/\(name)"
}

/// Runs a command to its end and returns its standard output without the last newline.
///
/// The environment's PG* variables are kept from it, so that a developer's own settings cannot redirect a test. What it
/// prints goes through files: the end of a pipe is known by its last writer, and a server started at the same moment by
/// another test could inherit that and keep it for as long as it lives.
/// - Throws: `PrivatePostgres.Failure` with the command's standard error when it does not end with 0 within two minutes.
@discardableResult
public func run(_ command: [String]) throws -> String {
    let environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("PG") }
        .merging(["PGCONNECT_TIMEOUT": "10", "LC_ALL": "C"]) { $1 }
    let output = FileManager.default.temporaryDirectory.appendingPathComponent("sidecar-\(UUID().uuidString)").path
    let errors = output + ".errors"
    defer { for path in [output, errors] { unlink(path) } }
    let process = try SpawnedProcess(
        ["/usr/bin/env", "-C", "/"] + command, environment: environment, output: output, errors: errors)
    let exit = try process.waitForExit(timeout: .seconds(120))
    guard exit == .code(0) else {
        let reason = (try? String(contentsOfFile: errors, encoding: .utf8)) ?? ""
        throw PrivatePostgres.Failure(description: "\(command[0]) ended with \(exit): \(reason)")
    }
    let text = process.output
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
}

/// Copies a program so that every user may execute it. Not by this process: what it has open for writing, a child that another
/// test forks at that moment keeps open until its exec, and a program that is open for writing cannot be executed.
public func copyProgram(_ program: String, to copy: String) throws {
    try run(["install", "-m", "755", program, copy])
}

/// A fresh directory that every user may enter.
public func makeTemporaryDirectory(_ name: String) throws -> String {
    let parent = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
    var template = Array("\(parent)/\(name)-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
        throw PrivatePostgres.Failure(description: "cannot make a directory in \(parent): errno \(errno)")
    }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, 0o755)
    return path
}

/// A TCP port that was free a moment ago. Somebody may take it before it is used: the user of it must be ready to retry.
public func freePort() throws -> UInt16 {
    let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(socket) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutableBytes(of: &address) { bytes -> Int32 in
        guard let base = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return -1 }
        guard bind(socket, base, length) == 0 else { return -1 }
        return getsockname(socket, base, &length)
    }
    guard result == 0 else { throw PrivatePostgres.Failure(description: "no free port: errno \(errno)") }
    return UInt16(bigEndian: address.sin_port)
}

/// The letter of /proc/PID/stat: R, S, T, Z ...; nil when there is no such process.
public func processState(_ pid: pid_t) -> Character? { processStat(pid)?.first?.first }

/// The fields of /proc/PID/stat from the state on. The name before them may hold spaces and brackets.
private func processStat(_ pid: pid_t) -> [Substring]? {
    guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
        let end = text.lastIndex(of: ")")
    else { return nil }
    return text[text.index(after: end)...].split(separator: " ")
}

/// Signals a postmaster and its children, the postmaster first so that a frozen one cannot start more of them. With SIGKILL
/// it is frozen first and killed last, or its children could not be found by their parent any more; all are dead then.
func send(_ signal: Int32, postmaster: pid_t) {
    kill(postmaster, signal == SIGKILL ? SIGSTOP : signal)
    if signal == SIGKILL {
        try? eventually("the postmaster is frozen") { processState(postmaster).map { "TZX".contains($0) } ?? true }
    }
    var all = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }
        .filter { processStat($0).map { $0.count > 1 && $0[1] == "\(postmaster)" } == true }
    if signal == SIGKILL { all.append(postmaster) }
    for pid in all { kill(pid, signal) }
    if signal == SIGKILL {
        try? eventually("all are dead") {
            all.allSatisfy { pid in processState(pid).map { "ZX".contains($0) } ?? true }
        }
    }
}

/// The supervisor. It stays the postmaster's parent and reaps it only on WAIT or at its end, so the pid in our hands can
/// never come to mean another process. At its end it tells the server to stop at once: one that is killed leaves its System V
/// shared memory behind for ever. What does not end is killed, the postmaster's children, too: a frozen one would not
/// notice that its parent is gone. (PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the
/// postmaster ends, and Swift's pool ends threads as it likes.)
func startSupervisor(directory: String, socket: Int32) throws -> pid_t {
    // HUP: when the test process dies while the postmaster is stopped, the kernel sends it to the orphaned group.
    let script = """
        trap '' HUP
        directory=$1; shift
        pid=
        children() { cat "/proc/$1/task/$1/children"; }
        while read -r word; do
            case $word in
            START) "$@" </dev/null >>"$directory/log" 2>&1 & pid=$!; echo "$pid" ;;
            WAIT) wait "$pid"; pid=; echo ended ;;
            esac
        done
        if [ -n "$pid" ]; then
            kill -s CONT $(children "$pid") "$pid"; kill -s QUIT "$pid"
            # The server itself kills after 5 s what does not end.
            trap : USR1
            (sleep 8; kill -s USR1 $$) </dev/null >/dev/null & timer=$!
            wait "$pid"
            # 128 + USR1: the timer was first.
            if [ $? -eq 138 ]; then
                kill -s STOP "$pid"
                kill -s KILL $(children "$pid") "$pid"; wait "$pid"
            fi
            kill -s KILL $(children "$timer") "$timer"
            # There only if it was killed after all.
            memory=$(sed -n '7s/.* //p' "$directory/data/postmaster.pid") && [ -n "$memory" ] && ipcrm -m "$memory"
        fi 2>/dev/null
        rm -rf -- "$directory"
        """
    let command =
        ["/bin/sh", "-c", script, "sh", directory] + ServerUser.prefix
        + [serverBinary("postgres"), "-D", directory + "/data"]
    let environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("PG") }.map { "\($0)=\($1)" }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, socket, 0)
    posix_spawn_file_actions_adddup2(&actions, socket, 1)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The pool's threads block all signals and a child inherits that (Foundation's Process leaves it so): the shell
    // would never learn of its child's end. A group of its own keeps Ctrl-C from it; the closed socket will do.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))
    let argv = command.map { strdup($0) } + [nil]
    let envp = environment.map { strdup($0) } + [nil]
    defer { for string in argv + envp { free(string) } }
    var pid: pid_t = 0
    let result = spawnPatiently {
        posix_spawn(&pid, "/bin/sh", &actions, &attributes, argv, envp)
    }
    guard result == 0 else { throw PrivatePostgres.Failure(description: "cannot start /bin/sh: errno \(result)") }
    return pid
}

/// A connected pair of sockets that no other child inherits, and whose reads give up after a minute.
func socketPair() throws -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
        throw PrivatePostgres.Failure(description: "socketpair: errno \(errno)")
    }
    var limit = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    return (ends[0], ends[1])
}

/// Sends one line. A supervisor that is gone shows in the missing answer, not in a SIGPIPE.
func sendLine(_ line: String, _ socket: Int32) {
    let bytes = Array((line + "\n").utf8)
    Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL))
}

/// Receives one line; nil at end of file and after a minute's silence.
func receiveLine(_ socket: Int32) -> String? {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while recv(socket, &byte, 1, 0) == 1 {
        if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
        line.append(byte)
    }
    return nil
}
