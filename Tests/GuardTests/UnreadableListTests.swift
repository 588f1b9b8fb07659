// A list of children that cannot be read says nothing: not that nobody is there.

import CLinux
import Glibc
import TestSupport
import Testing

@testable import Guard

@Suite("Lists that cannot be read") struct UnreadableListTests {
    @Test func `a failed read is told apart from the end`() {
        let folder = open("/proc/self", O_RDONLY)
        defer { close(folder) }
        var list = PidList()
        list.begin(folder)
        let (first, hasFailed) = (list.next(), list.hasFailed)
        #expect(first == nil && hasFailed, "read(2) of a folder fails")
        let empty = open("/dev/null", O_RDONLY)
        defer { close(empty) }
        var other = PidList()
        other.begin(empty)
        let (none, otherFailed) = (other.next(), other.hasFailed)
        #expect(none == nil && !otherFailed)
    }

    @Test func `below a guard whose list of children cannot be read, nothing is called empty`() throws {
        let folder = open("/proc/self", O_RDONLY)
        defer { close(folder) }
        // Somebody who is there and has no child stands in for a guard that does not die. Not this process: it has children of
        // other tests, which the sweep would kill.
        let directory = try makeTemporaryDirectory("guard")
        let guardian = try SpawnedProcess(["/bin/sleep", "600"], environment: [:], output: directory + "/output")
        defer {
            guardian.signal(SIGKILL)
            for path in [directory + "/output", directory] { remove(path) }
        }
        let descriptor = clinux_pidfd_open(guardian.pid)
        defer { close(descriptor) }
        var tree = Tree()
        for _ in 0..<3 {
            let progress = tree.sweep(
                below: Tree.Condemned(pid: guardian.pid, children: folder, descriptor: descriptor))
            #expect(progress != .empty)
        }
        let empty = open("/dev/null", O_RDONLY)
        defer { close(empty) }
        let progress = tree.sweep(below: Tree.Condemned(pid: guardian.pid, children: empty, descriptor: descriptor))
        #expect(progress == .empty, "one that can be read, and lists nobody")
    }
}
