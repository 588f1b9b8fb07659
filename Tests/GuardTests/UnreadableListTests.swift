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

    /// In a process of its own: the sweep kills every child but the guard, and here other tests have theirs.
    @Test func `below a guard whose list of children cannot be read, nothing is called empty`() async {
        await #expect(processExitsWith: .success) {
            let folder = open("/proc/self", O_RDONLY)
            // Somebody who is there and has no child stands in for a guard that does not die.
            let guardian = fork(sleepingFor: 600)
            defer { kill(guardian, SIGKILL) }
            let descriptor = clinux_pidfd_open(guardian)
            var tree = Tree()
            for _ in 0..<3 {
                let progress = tree.sweep(
                    below: Tree.Condemned(pid: guardian, children: folder, descriptor: descriptor))
                #expect(progress != .empty)
            }
            let empty = open("/dev/null", O_RDONLY)
            let progress = tree.sweep(below: Tree.Condemned(pid: guardian, children: empty, descriptor: descriptor))
            #expect(progress == .empty, "one that can be read, and lists nobody")
        }
    }
}

private func fork(sleepingFor seconds: Int) -> pid_t {
    var arguments: [UnsafeMutablePointer<CChar>?] =
        ["sleep", String(seconds)].map { (word: String) in strdup(word) } + [nil]
    var pid: pid_t = 0
    #expect(posix_spawnp(&pid, "sleep", nil, nil, &arguments, nil) == 0)
    for text in arguments { free(text) }
    return pid
}
