// What the kernel hides: descendants that /proc does not show to a guard that is not root (hidepid), and from the child
// everything that keeper and guard know.

import CLinux
import Glibc
import TestSupport
import Testing

extension RealTrees {
    @Suite struct HiddenTests {
        /// Who is nobody (65534) after this, with a /proc of its own that hides what it may.
        static func asNobody(hidepid: String?) -> String {
            let mount = hidepid.map { "mount -t proc -o hidepid=\($0) proc /proc && " } ?? ""
            let become = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\""
            return "exec unshare -m sh -c '\(mount)\(become)' sh \"$@\""
        }

        /// Whether a shell could do that; `id` then says who it is.
        static func can(_ hidepid: String?) -> Bool {
            guard getuid() == 0 else { return false }
            var pid: pid_t = 0
            let words = ["/bin/sh", "-c", asNobody(hidepid: hidepid), "sh", "true"]
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) } + [nil]
            defer { for text in arguments { free(text) } }
            var status: Int32 = -1
            let failed = posix_spawn(&pid, "/bin/sh", nil, nil, &arguments, clinux_environment())
            return failed == 0 && waitpid(pid, &status, 0) == pid && status == 0
        }

        static let canHide = can("invisible")
        static let canBeNobody = can(nil)

        /// A setuid program: nobody may look into it, and it may be killed by whoever started it.
        private func helper() throws -> String {
            let path = "/var/tmp/guard-test-\(getpid())-helper"
            let bytes = try #require(ProcessTable.bytes("/bin/sleep"))
            let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o755)
            try #require(file >= 0 && write(file, bytes, bytes.count) == bytes.count)
            close(file)
            try #require(chmod(path, 0o4755) == 0)
            return path
        }

        @Test(
            .enabled(if: canHide, "needs root and a kernel that lets it mount a /proc of its own with hidepid"),
            arguments: ["1", "2", "invisible"])
        func `kills what hidepid hides`(_ hidepid: String) async throws {
            let helper = try helper()
            defer { unlink(helper) }
            let forks = "/dev/shm/guard-test-\(getpid())-hidden"
            let host = try Host(
                [builtProduct("TreeShapes"), "secretive", forks, helper], prelude: Self.asNobody(hidepid: hidepid))
            defer { unlink(forks) }
            await host.startShape()
            // One that is being executed shows no environment for a moment.
            await host.eventually("all eight are seen") { host.tree.count == 8 }
            host.order("kill 1")
            await host.hears("empty 1")
            #expect(host.tree.isEmpty, "called empty over living processes")
        }

        @Test(
            .enabled(if: canHide, "needs root and a kernel that lets it mount a /proc of its own with hidepid"))
        func `guard killed: the keeper's sweep finds what hidepid hides`() async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-hidden"
            let host = try Host(
                [builtProduct("TreeShapes"), "secretive", forks], prelude: Self.asNobody(hidepid: "2"))
            defer { unlink(forks) }
            await host.startShape()
            kill(host.guardPid, SIGKILL)
            await host.hears("closed")
            host.order("sweep")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
        }

        @Test(
            .enabled(if: canHide && UndeadGuardTests.canFreeze, "needs root, hidepid and a freezer (cgroup v1)"))
        func `guard that does not die: what hidepid hides below it is killed`() async throws {
            let forks = "/dev/shm/guard-test-\(getpid())-hidden"
            let host = try Host(
                [builtProduct("TreeShapes"), "secretive", forks], prelude: Self.asNobody(hidepid: "invisible"))
            defer { unlink(forks) }
            await host.startShape()
            let freezer = try Freezer()
            defer { freezer.thaw() }
            try await freezer.freeze(host.guardPid)
            host.order("kill-guard")
            host.order("sweep-below")
            await host.hears("swept")
            #expect(host.tree.isEmpty)
            #expect(ProcessTable.isAlive(host.guardPid))
        }

        @Test(.enabled(if: canBeNobody, "needs root, to become somebody else"))
        func `the child gets neither memory nor environment nor files of guard and keeper`() async throws {
            let host = try Host([builtProduct("TreeShapes"), "thief"], prelude: Self.asNobody(hidepid: nil))
            await host.startShape()
            let stolen = await host.hears("stolen").split(whereSeparator: { " ,".contains($0) }).compactMap { Int($0) }
            #expect(stolen.count == 3 && stolen[0] == 0 && stolen[1] == 0)
            #expect(stolen.last ?? 0 > 3, "nothing can be taken from anybody: nothing was shown")
        }
    }
}
