// A guard that SIGKILL does not end at once (R12): traced by somebody who is stopped, or frozen alone. What is below it must die
// all the same, and the guard itself, with the zombies that it cannot reap, must not count.

import Foundation
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct UndeadGuardTests {
        static let canFreeze: Bool = {
            guard let freezer = try? Freezer() else { return false }
            freezer.thaw()
            return true
        }()

        // No storms: a guard that cannot reap keeps all their dead, and these fill the machine's process table, for every other
        // test as well.
        static let shapes = DeadlineTests.shapes.filter { $0 != "vfork" }

        @Test(
            .enabled(if: HeldStartTests.mayTrace, "one process may not trace another here"),
            arguments: shapes)
        func `traced and killed: the keeper kills what is below it`(_ shape: String) async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-undead"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks])
            await host.startShape()
            // Not a child of the host, which the sweep would kill.
            let holder = try Holder(host.guardPid, untilReaped: false)
            await host.eventually("the guard is held") { ProcessTable.status(host.guardPid, "State") == "t" }
            host.order("kill-guard")
            host.order("sweep-below")
            await host.hears("swept", within: .seconds(120))
            #expect(host.tree.isEmpty, "called empty over living processes")
            #expect(ProcessTable.isAlive(host.guardPid), "it died: nothing was shown")
            holder.end()
        }

        @Test(
            .enabled(if: HeldStartTests.mayTrace, "one process may not trace another here"),
            arguments: ["daemon", "sessions", "deep", "wide"])
        func `traced and dead, so that nobody reaps it: the keeper's sweep ends`(_ shape: String) async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-undead"
            defer { unlink(forks) }
            let host = try Host([builtProduct("TreeShapes"), shape, forks])
            await host.startShape()
            // Not a child of the host, which the sweep would kill.
            let holder = try Holder(host.guardPid, untilReaped: true)
            await host.eventually("the guard is held") { ProcessTable.status(host.guardPid, "State") == "t" }
            host.order("kill-guard")
            await host.eventually("the guard to be dead") { ProcessTable.isZombie(host.guardPid) }
            host.order("sweep-but-guard")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
            #expect(ProcessTable.isZombie(host.guardPid), "it was reaped: nothing was shown")
            holder.end()
        }

        @Test(
            .enabled(if: canFreeze, "needs root and a freezer (cgroup v1)"),
            arguments: ["stubborn", "daemon", "subreaper"])
        func `frozen and killed: the keeper kills what is below it`(_ shape: String) async throws {
            let host = try Host([builtProduct("TreeShapes"), shape])
            await host.startShape()
            let freezer = try Freezer()
            defer { freezer.thaw() }
            try await freezer.freeze(host.guardPid)
            host.order("kill-guard")
            host.order("sweep-below")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
            #expect(ProcessTable.isAlive(host.guardPid), "it died: nothing was shown")
            #expect(ProcessTable.isZombie(host.commandPid), "somebody has reaped the command")
        }

        private static let canSlow = (try? TestSupport.run([builtProduct("slowfile")])) != nil

        /// While the kernel ends the guard, which may take long, orphans fall past it to the keeper, and it is no zombie yet.
        @Test(.enabled(if: canSlow, "needs root and FUSE"))
        func `what falls past a guard on its way out is killed before anything is called empty`() async throws {
            let directory = try makeTemporaryDirectory("guard")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            try FileManager.default.createDirectory(atPath: directory + "/slow", withIntermediateDirectories: false)
            let server = try SpawnedProcess(
                [builtProduct("slowfile"), directory + "/slow"], environment: [:], output: directory + "/log")
            defer {
                server.signal(SIGTERM)
                _ = try? server.waitForExit()
            }
            try await TestSupport.eventually(awaiting: "it is mounted") { server.output.contains("ready") }
            // A file that host and guard have open, and the command has not.
            let host = try Host(
                ["/bin/sh", "-c", "exec 2>/dev/null; sleep 1000 & echo shape ready; wait"],
                prelude: "exec 2>\(directory)/slow/file")
            // Nor can the host end before it is let go.
            defer { withExtendedLifetime(host) { server.signal(SIGTERM) } }
            await host.startShape()
            let command = host.commandPid
            let orphan = try #require(host.tree.first { $0 != command })
            server.signal(SIGUSR1)
            try await TestSupport.eventually(awaiting: "its server hangs") { server.output.contains("hangs") }
            host.order("kill-guard")
            await host.eventually("the guard hangs in its end") {
                ProcessTable.status(host.guardPid, "State") == "D"
            }
            kill(command, SIGKILL)
            await host.eventually("the orphan has fallen to the keeper") {
                ProcessTable.status(orphan, "PPid") == "\(host.pid)"
            }
            #expect(ProcessTable.isAlive(orphan))
            host.order("sweep-below")
            await host.hears("swept")
            #expect(!ProcessTable.isAlive(orphan), "called empty over a living process")
            #expect(ProcessTable.status(host.guardPid, "State") == "D", "it died: nothing was shown")
        }

        @Test(.enabled(if: canFreeze, "needs root and a freezer (cgroup v1)"))
        func `a start that waits in the channel comes to nothing`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "daemon"])
            await host.hears("ready")
            let freezer = try Freezer()
            try await freezer.freeze(host.guardPid)
            host.order("start 1 100000")
            host.order("kill-guard")
            host.order("sweep-below")
            await host.hears("swept")
            freezer.thaw()
            await host.hears("closed")
            #expect(host.story == ["closed"])
            #expect(host.tree.isEmpty)
        }
    }
}

/// Traces a guard, from outside of its host's tree.
private final class Holder {
    private var pid: pid_t = 0

    /// - Parameter untilReaped: SIGKILL ends the guard, but nobody can reap it.
    init(_ guardian: pid_t, untilReaped: Bool) throws {
        let words = [builtProduct("StartHolder"), "hold", "\(guardian)"] + (untilReaped ? ["dead"] : [])
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) } + [nil]
        defer { for text in arguments { free(text) } }
        try #require(posix_spawn(&pid, words[0], nil, nil, &arguments, nil) == 0)
    }

    func end() {
        guard pid > 0 else { return }
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        pid = 0
    }

    deinit { end() }
}

/// A freezer (cgroup v1) for one process. Unlike that of v2, it holds even who is killed.
struct Freezer {
    struct Missing: Error {}

    private let path: String

    init() throws {
        let mount = ProcessTable.text("/proc/self/mountinfo").split(separator: "\n")
            .first { $0.contains(" - cgroup ") && $0.hasSuffix("freezer") }.map { String($0.split(separator: " ")[4]) }
        guard let mount else { throw Missing() }
        path = "\(mount)/guard-test-\(getpid())-\(Int.random(in: 0...Int.max))"
        guard mkdir(path, 0o755) == 0 else { throw Missing() }
    }

    func freeze(_ pid: pid_t) async throws {
        try write("\(pid)", "tasks")
        try write("FROZEN", "freezer.state")
        for _ in 0..<2000 {
            if ProcessTable.text(path + "/freezer.state") == "FROZEN\n" { return }
            try await Task.sleep(for: .milliseconds(3))
        }
        throw Missing()
    }

    /// Lets all go and removes the group once they have left it.
    func thaw() {
        try? write("THAWED", "freezer.state")
        for _ in 0..<1000 {
            if rmdir(path) == 0 { return }
            usleep(3000)
        }
    }

    private func write(_ text: String, _ file: String) throws {
        let descriptor = open("\(path)/\(file)", O_WRONLY | O_CLOEXEC)
        defer { close(descriptor) }
        guard Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count else { throw Missing() }
    }
}
