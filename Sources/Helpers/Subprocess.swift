// Runs a helper command where nobody else reaps (before the keeper's loop starts, in short commands) and collects what it prints: with posix_spawn, a time limit, and
// stderr passed through. No failure quotes the output: it is where the password is.

import CLinux
import Clock
import Glibc
import Text

/// Short-lived helper commands.
package enum Subprocess {
    package struct Problem: Error, Equatable {
        package let reason: String

        package init(reason: String) { self.reason = reason }
    }

    /// No connection string is longer.
    package static let sizeLimit = 1 << 20

    /// The standard output of a command that ends with 0 within `limit`. One that prints too much or lives too long is
    /// killed with its process group.
    package static func output(of words: [String], limit: Duration) -> Result<String, Problem> {
        // Were it inherited as ignored, nobody would be told how the command ended.
        guard clinux_default_signal(SIGCHLD) == 0 else { return .failure(Problem(reason: "could not be watched")) }
        let deadline = BootClock.now() + limit
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { return .failure(Problem(reason: "could not be given a pipe")) }
        defer { close(ends[0]) }
        let (pid, error) = spawn(words, output: ends[1])
        close(ends[1])
        guard error == 0 else { return .failure(Problem(reason: "cannot be executed: \(errorText(error))")) }
        let overdue = Problem(reason: "did not end within \(Durations.text(limit))")
        switch read(ends[0], until: deadline) {
        case .all(let bytes):
            switch wait(for: pid, until: deadline) {
            case .ended(let status): return text(bytes, status)
            case .lost(let number):
                return .failure(Problem(reason: "ended as nobody knows how: \(errorText(number))"))
            case .alive:
                killGroup(pid)
                return .failure(overdue)
            }
        case .tooMuch:
            killGroup(pid)
            return .failure(Problem(reason: "printed more than \(sizeLimit) bytes"))
        case .overdue:
            killGroup(pid)
            return .failure(overdue)
        }
    }

    /// What a copy of this program prints until it ends or `limit` is over. Nobody waits for its end: in the keeper the loop
    /// reaps it. The copy takes care of its own end; when the calling thread ends, it is killed.
    package static func outputOfCopy(_ words: [String], limit: Duration) -> Result<[UInt8], Problem> {
        let deadline = BootClock.now() + limit
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { return .failure(Problem(reason: "could not be given a pipe")) }
        defer { close(ends[0]) }
        let (_, error) = spawn(words, executable: "/proc/self/exe", output: ends[1])
        close(ends[1])
        guard error == 0 else { return .failure(Problem(reason: "cannot be executed: \(errorText(error))")) }
        switch read(ends[0], until: deadline) {
        case .all(let bytes): return .success(bytes)
        case .tooMuch: return .failure(Problem(reason: "printed more than \(sizeLimit) bytes"))
        case .overdue: return .failure(Problem(reason: "did not end within \(Durations.text(limit))"))
        }
    }

    /// Starts a command as the first of a process group of its own, with no signal blocked, and none ignored that this
    /// program ignores (main.swift).
    /// - Returns: its process id, and posix_spawnp(3)'s error number or 0.
    private static func spawn(
        _ words: [String], executable: String? = nil, output: Int32
    ) -> (pid: pid_t, error: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var ours = sigset_t()
        sigemptyset(&ours)
        for number in [SIGPIPE, SIGXFSZ] { sigaddset(&ours, number) }
        posix_spawnattr_setsigdefault(&attributes, &ours)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        posix_spawnattr_setpgroup(&attributes, 0)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let error = posix_spawnp(&pid, executable ?? words[0], &actions, &attributes, &arguments, clinux_environment())
        return (pid, error)
    }

    private enum Printed {
        case all([UInt8])
        case tooMuch
        case overdue
    }

    private static func read(_ file: Int32, until deadline: Instant) -> Printed {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= sizeLimit {
            let left = deadline.since(BootClock.now())
            guard left > .zero else { return .overdue }
            var entry = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, Int32(clamping: left.milliseconds + 1)) > 0 else { continue }
            let count = Glibc.read(file, &buffer, buffer.count)
            if count == 0 { return .all(bytes) }
            if count > 0 { bytes += buffer.prefix(count) }
        }
        return .tooMuch
    }

    enum End: Equatable {
        /// With this wait status.
        case ended(Int32)
        case alive
        /// It is nobody's child, or somebody else's: with errno.
        case lost(Int32)
    }

    /// How a child ends. Its output may have ended long before.
    static func wait(for pid: pid_t, until deadline: Instant) -> End {
        while true {
            var status: Int32 = 0
            let found = waitpid(pid, &status, WNOHANG)
            let number = errno
            if found == pid { return .ended(status) }
            if found < 0 && number != EINTR { return .lost(number) }
            guard BootClock.now() < deadline else { return .alive }
            poll(nil, 0, 5)
        }
    }

    /// Kills a child that nobody has waited for yet, so that its number is still its group's, with all of the group. One
    /// that cannot be killed, such as another user's, is left behind.
    private static func killGroup(_ pid: pid_t) {
        kill(-pid, SIGKILL)
        _ = wait(for: pid, until: BootClock.now() + .seconds(1))
    }

    private static func text(_ bytes: [UInt8], _ status: Int32) -> Result<String, Problem> {
        guard clinux_exited(status) != 0, clinux_exit_status(status) == 0 else {
            return .failure(Problem(reason: "failed"))
        }
        // Repaired, a password would become another one.
        guard let text = String(validating: bytes, as: UTF8.self) else {
            return .failure(Problem(reason: "printed what is not UTF-8"))
        }
        return .success(text)
    }
}
