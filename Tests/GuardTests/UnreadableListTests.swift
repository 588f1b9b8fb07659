// A list of children that cannot be read says nothing: not that nobody is there.

import CLinux
import Glibc
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

    @Test func `below a guard whose list of children cannot be read, nothing is called empty`() {
        let folder = open("/proc/self", O_RDONLY)
        defer { close(folder) }
        // Somebody who is there and has no child: this very process stands in for a guard that does not die.
        let descriptor = clinux_pidfd_open(getpid())
        defer { close(descriptor) }
        var tree = Tree()
        for _ in 0..<3 {
            let progress = tree.sweep(
                below: Tree.Condemned(pid: getpid(), children: folder, descriptor: descriptor))
            #expect(progress != .empty)
        }
        let empty = open("/dev/null", O_RDONLY)
        defer { close(empty) }
        let progress = tree.sweep(below: Tree.Condemned(pid: getpid(), children: empty, descriptor: descriptor))
        #expect(progress == .empty, "one that can be read, and lists nobody")
    }
}
