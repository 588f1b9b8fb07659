// Drives one guard-host: starts it, writes its orders, collects what it prints, and looks at the machine's processes for
// itself: a tree is dead when no process carries its mark any more, whatever the guard says.

import CLinux
import Clock
import Glibc
import TestSupport
import Testing

/// All that run real trees, one after the other: they would only take each other's processors.
@Suite(.serialized) enum RealTrees {}

final class Host {
    let pid: pid_t
    /// Every process of this host inherits it in its environment.
    private let mark: String
    private let input: Int32
    private let output: Int32
    private var partial: [UInt8] = []
    private(set) var lines: [(time: Instant, text: String)] = []
    private var isReaped = false

    /// Starts a host whose guard can start `command`.
    /// - Parameter prelude: what a shell does to itself before it becomes the host.
    init(options: [String] = [], _ command: [String], prelude: String? = nil) throws {
        mark = "GUARD_TEST=\(BootClock.now().nanoseconds)-\(Int.random(in: 0...Int.max))"
        var orders: [Int32] = [-1, -1]
        var answers: [Int32] = [-1, -1]
        try #require(clinux_pipe(&orders, 0) == 0 && clinux_pipe(&answers, 0) == 0)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, orders[0], 0)
        posix_spawn_file_actions_adddup2(&actions, answers[1], 1)
        // What a careless parent leaves behind: an open file, blocked signals, an ignored one.
        posix_spawn_file_actions_adddup2(&actions, answers[1], 9)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK))
        var blocked = sigset_t()
        sigemptyset(&blocked)
        sigaddset(&blocked, SIGUSR1)
        sigaddset(&blocked, SIGTERM)
        posix_spawnattr_setsigmask(&attributes, &blocked)
        _ = Glibc.signal(SIGUSR2, SIG_IGN)
        let enter = prelude.map { ["/bin/sh", "-c", $0 + " && exec \"$@\"", "sh"] } ?? []
        let line = enter + [builtProduct("GuardHost")] + options + ["--"] + command
        var arguments: [UnsafeMutablePointer<CChar>?] = line.map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] = [
            strdup(mark), strdup("KEPT=inherited"), strdup("CHANGED=old"),
        ]
        environment += [strdup("PATH=/usr/bin:/bin"), nil]
        var pid: pid_t = 0
        var result = posix_spawn(&pid, line[0], &actions, &attributes, &arguments, &environment)
        // What a storm has left behind may fill the machine's process table for a while.
        let patience = BootClock.now() + .seconds(120)
        while result == EAGAIN, BootClock.now() < patience {
            poll(nil, 0, 50)
            result = posix_spawn(&pid, line[0], &actions, &attributes, &arguments, &environment)
        }
        close(orders[0])
        close(answers[1])
        for text in arguments + environment { free(text) }
        try #require(result == 0, "cannot start \(line): errno \(result)")
        self.pid = pid
        input = orders[1]
        output = answers[0]
        _ = clinux_set_nonblocking(output)
    }

    /// Kills whatever this host and its guard have started.
    deinit {
        close(input)
        if !isReaped { kill(pid, SIGKILL) }
        for _ in 0..<500 {
            let rest = marked()
            if rest.isEmpty { break }
            for pid in rest { kill(pid, SIGKILL) }
            usleep(1000)
        }
        if !isReaped { waitpid(pid, nil, 0) }
        close(output)
    }

    func order(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = write(input, bytes, bytes.count)
    }

    /// The command's and its descendants' processes: all that carry the mark but host and guard.
    var tree: [pid_t] {
        let guardian = guardPid
        return marked().filter { $0 != pid && $0 != guardian }
    }

    var guardPid: pid_t { line("guard ").flatMap { pid_t($0.dropFirst("guard ".count)) } ?? -1 }

    /// The pid that `.started` told.
    var commandPid: pid_t { line("started ")?.split(separator: " ").last.flatMap { pid_t($0) } ?? -1 }

    /// The first line so far that begins so.
    func line(_ prefix: String) -> String? {
        pump()
        return lines.first { $0.text.hasPrefix(prefix) }?.text
    }

    func time(of prefix: String) -> Instant? { lines.first { $0.text.hasPrefix(prefix) }?.time }

    /// The answers about starts, in the order they came.
    var story: [String] {
        pump()
        let told = ["started", "notStarted", "extended", "exited", "killing", "empty", "closed", "nonsense"]
        return lines.map(\.text).filter { line in told.contains { line.hasPrefix($0) } }
            .map { $0.hasPrefix("started") ? "started" : $0.hasPrefix("extended") ? "extended" : $0 }
    }

    /// Waits until the host has printed a line that begins so.
    @discardableResult
    func hears(
        _ prefix: String, within limit: Duration = .seconds(30), _ location: SourceLocation = #_sourceLocation
    ) async -> String {
        await eventually("the line '\(prefix)'", within: limit, location) { self.line(prefix) != nil }
        return line(prefix) ?? ""
    }

    /// Waits until `condition` holds; fails with the timeline.
    func eventually(
        _ what: String, within limit: Duration = .seconds(30), _ location: SourceLocation = #_sourceLocation,
        _ condition: () -> Bool
    ) async {
        do {
            try await TestSupport.eventually(awaiting: what, timeout: limit, every: .milliseconds(3), condition)
        } catch {
            let timeline = lines.map { "\($0.time.nanoseconds / 1_000_000) ms: \($0.text)" }.joined(separator: "\n")
            Issue.record("waited in vain: \(error)\n\(timeline)\nalive: \(tree)", sourceLocation: location)
        }
    }

    /// Starts the command with a deadline that far away and waits until its tree has its shape.
    func startShape(milliseconds: Int = 100_000) async {
        order("start 1 \(milliseconds)")
        // The one before may have been a bomb: what is left of it takes the processor for a while.
        await hears("started 1", within: .seconds(120))
        await hears("shape ready", within: .seconds(120))
    }

    func treeDies(_ location: SourceLocation = #_sourceLocation) async {
        await eventually("the whole tree to be dead", location) { tree.isEmpty }
    }

    func guardDies(_ location: SourceLocation = #_sourceLocation) async {
        await eventually("the guard to be gone", location) { !ProcessTable.isAlive(guardPid) }
    }

    func signal(_ number: Int32) {
        kill(pid, number)
        guard number == SIGKILL else { return }
        waitpid(pid, nil, 0)
        isReaped = true
    }

    func signalGroup(_ number: Int32) {
        kill(-pid, number)
        waitpid(pid, nil, 0)
        isReaped = true
    }

    private func marked() -> [pid_t] { ProcessTable.pids(with: mark) }

    private func pump() {
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(output, &part, part.count)
            guard count > 0 else { return }
            partial += part[..<count]
            while let end = partial.firstIndex(of: UInt8(ascii: "\n")) {
                lines.append((BootClock.now(), String(decoding: partial[..<end], as: UTF8.self)))
                partial.removeSubrange(...end)
            }
        }
    }
}
