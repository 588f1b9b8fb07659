// The control group on top of ancestry: used where the guard's own may be written, and gone again with the tree. Needs root
// and cgroup v2; elsewhere it is skipped, as the guard does without, too.

import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct CgroupTests {
        static let mount = ProcessTable.text("/proc/self/mountinfo").split(separator: "\n")
            .first { $0.contains(" - cgroup2 ") }.map { String($0.split(separator: " ")[4]) }

        /// A group for the host of one test.
        static func makeGroup() -> String? {
            guard let mount else { return nil }
            let path = "\(mount)/guard-test-\(getpid())-\(Int.random(in: 0...Int.max))"
            guard mkdir(path, 0o755) == 0 else { return nil }
            return path
        }

        static let isPossible: Bool = {
            guard let path = makeGroup() else { return false }
            rmdir(path)
            return true
        }()

        @Test(.enabled(if: isPossible), arguments: ["daemon", "session-chains", "session-bomb"])
        func `the tree has a group of its own that ends with it`(_ shape: String) async throws {
            let path = try #require(Self.makeGroup())
            let forks = "/dev/shm/guard-test-\(getpid())-cgroup"
            defer {
                unlink(forks)
                rmdir(path)
            }
            let host = try Host([builtProduct("TreeShapes"), shape, forks], prelude: "echo $$ > \(path)/cgroup.procs")
            await host.startShape()
            let group = "\(path)/sidecar-\(host.guardPid)-1"
            #expect(ProcessTable.text(group + "/cgroup.procs").contains("\(host.commandPid)\n"))
            host.order("kill 1")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty)
            #expect(access(group, F_OK) != 0, "the group was left behind")
            host.signal(SIGKILL)
            await host.guardDies()
            await host.eventually("the test's own group to be free") { rmdir(path) == 0 }
        }
    }
}
