// A guard that SIGKILL does not end at once (R12): traced by somebody who is stopped, or frozen alone. What is below it must die
// all the same, and the guard itself, with the zombies that it cannot reap, must not count.

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
            host.order("spawn \(builtProduct("StartHolder")) hold \(host.guardPid)")
            await host.hears("holder ready")
            host.order("kill-guard")
            host.order("sweep-below")
            await host.hears("swept", within: .seconds(120))
            #expect(
                host.tree.allSatisfy { ProcessTable.name($0) == "StartHolder" }, "called empty over living processes")
            #expect(ProcessTable.isAlive(host.guardPid), "it died: nothing was shown")
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
            let holder = try Holder(host.guardPid)
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

    init(_ guardian: pid_t) throws {
        let words = [builtProduct("StartHolder"), "hold", "\(guardian)", "dead"]
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
