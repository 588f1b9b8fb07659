// Runs a helper command before the keeper's loop starts and collects what it prints: with posix_spawn, a time limit, and
// stderr passed through.

import CLinux
import Clock
import Glibc

/// Short-lived helper commands.
enum Subprocess {
    struct Problem: Error {
        let reason: String
    }

    /// The standard output of a command that ends with 0 within `limit`.
    static func output(of words: [String], limit: Duration) -> Result<String, Problem> {
        var ends: [Int32] = [-1, -1]
        guard clinux_pipe(&ends, 0) == 0 else { return .failure(Problem(reason: "could not be given a pipe")) }
        defer { close(ends[0]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let error = posix_spawnp(&pid, words[0], &actions, nil, &arguments, clinux_environment())
        close(ends[1])
        guard error == 0 else { return .failure(Problem(reason: "cannot be executed: \(errorText(error))")) }
        let (text, finished) = read(ends[0], until: BootClock.now() + limit)
        if !finished { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        guard finished else { return .failure(Problem(reason: "did not end within \(Durations.text(limit))")) }
        guard clinux_exited(status) != 0, clinux_exit_status(status) == 0 else {
            return .failure(Problem(reason: "failed"))
        }
        return .success(text)
    }

    private static func read(_ file: Int32, until deadline: Instant) -> (text: String, finished: Bool) {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 1 << 20 {
            let left = deadline.since(BootClock.now())
            guard left > .zero else { break }
            var entry = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, Int32(clamping: left.milliseconds + 1)) > 0 else { continue }
            let count = Glibc.read(file, &buffer, buffer.count)
            if count == 0 { return (String(decoding: bytes, as: UTF8.self), true) }
            if count > 0 { bytes += buffer.prefix(count) }
        }
        return (String(decoding: bytes, as: UTF8.self), false)
    }
}

/// strerror(3), in words and with the number.
func errorText(_ number: Int32) -> String { "\(String(cString: strerror(number))) (errno \(number))" }
