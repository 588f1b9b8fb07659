// A list of children that cannot be read says nothing: not that nobody is there.

import CLinux
import Glibc
import Synchronization
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

    /// It is for that thread to reap, at any time: its pid may be anybody's at the next moment.
    @Test func `another thread's child is left alone below a guard, where there are no lists of children`() async {
        await #expect(processExitsWith: .success) {
            let helper = Box()
            startThread("helper") {
                helper.pid.withLock { $0 = fork(sleepingFor: 600) }
                while true { pause() }
            }
            try eventually("it runs") { helper.pid.withLock { $0 } > 0 }
            let pid = helper.pid.withLock { $0 }
            defer { kill(pid, SIGKILL) }
            let guardian = fork(sleepingFor: 600)
            defer { kill(guardian, SIGKILL) }
            var tree = Tree(childrenFiles: false)
            for _ in 0..<3 {
                while tree.sweep(
                    below: Tree.Condemned(pid: guardian, children: -1, descriptor: clinux_pidfd_open(guardian)))
                    == .unfinished
                {}
            }
            try eventually("a SIGKILL would have ended it") { !ProcessTable.isAlive(pid) || helper.looks() > 20 }
            #expect(ProcessTable.isAlive(pid))
        }
    }
}

private final class Box: Sendable {
    let pid = Mutex<pid_t>(0)
    private let count = Mutex(0)

    func looks() -> Int {
        count.withLock { count in
            count += 1
            return count
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
