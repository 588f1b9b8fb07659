// Kills everything that descends from the calling process, by ancestry alone. The guard uses it on the child's tree; the
// keeper on what falls to it when the guard has died. Guarantees: no process is ever signalled that is not a descendant,
// and a tree is called empty only when waitpid(2) knows no child.

import CLinux
import Glibc

/// The descendants of the calling process, which must be a subreaper (PR_SET_CHILD_SUBREAPER), so that an orphan becomes
/// its child and never escapes.
///
/// Only one thread may use it, and nothing else in the process may reap: a pid is safe to signal because nobody but this
/// value can free it. Makes its buffers at `init` and allocates nothing later.
///
/// How each is reached without ever hitting a pid that was given to somebody else:
/// - A direct child keeps its pid until reaped here: kill(2). So does its process group, which kill(2) signals as a whole,
///   and no fork inside it can escape that. A group is signalled only in a session that is not our own: such a session was
///   founded by a descendant, so nobody else can be in it.
/// - A deeper one through a pidfd, after a second look has shown that it is still the process that was seen. Where that
///   cannot be had, its turn comes when its parent is dead and it has become a direct child.
public struct Tree: ~Copyable {
    private let files = ProcessFiles()
    /// The processes of one sweep in ascending order of pid. What does not fit has its turn in a later sweep.
    private let table: UnsafeMutableBufferPointer<ProcessStat>
    private let inTree: UnsafeMutableBufferPointer<Bool>
    private var restlessSweeps = 0

    /// Makes the buffers and opens /proc.
    public init() {
        let capacity = 32 * 1024
        table = .allocate(capacity: capacity)
        inTree = .allocate(capacity: capacity)
    }

    deinit {
        table.deallocate()
        inTree.deallocate()
    }

    /// Whether processes can be seen: /proc is mounted and is that of our pid namespace. Otherwise a tree cannot be killed.
    public var isUsable: Bool { files.isUsable }

    /// Reaps every child that has ended and tells `reaped` its pid and wait status.
    /// - Returns: whether the calling process now has no child at all (waitpid(2) says ECHILD).
    @discardableResult
    public mutating func reap(_ reaped: (pid_t, Int32) -> Void) -> Bool {
        // Bounded: children that end faster than they can be reaped must not hold up a deadline.
        for _ in 0..<4096 {
            var status: Int32 = 0
            let pid = clinux_reap(&status)
            if pid > 0 {
                reaped(pid, status)
            } else if pid == 0 || errno != EINTR {
                return pid < 0 && errno == ECHILD
            }
        }
        return false
    }

    /// Sends SIGKILL to every living descendant, then reaps. To be repeated, with short waits, until it returns true.
    /// - Parameters:
    ///   - excluded: a child that is left alone with all that descends from it (the keeper's guard), or nil.
    ///   - reaped: told the pid and wait status of each child that was reaped, the excluded one included.
    /// - Returns: whether nothing is left. Without `excluded`: waitpid(2) says ECHILD. With it: no other child was seen.
    public mutating func sweep(excluding excluded: pid_t? = nil, reaped: (pid_t, Int32) -> Void) -> Bool {
        let seen = killDescendants(excluded)
        // While there is still life, the dead are left lying: they count against every limit on processes (pids.max,
        // RLIMIT_NPROC, pid_max), so a tree that forks faster than it can be killed runs out of room to fork. Not for
        // ever, since others live under those limits too.
        restlessSweeps = seen.isRestless ? restlessSweeps + 1 : 0
        if seen.isRestless, restlessSweeps % 32 != 0 { return false }
        let isEmpty = reap(reaped)
        return isEmpty || (excluded != nil && seen.children == 0)
    }

    private struct Sighting {
        var children = 0
        /// Somebody was not dead yet.
        var isRestless = false
    }

    private func killDescendants(_ excluded: pid_t?) -> Sighting {
        let own = getpid()
        let ownGroup = getpgrp()
        let ownSession = getsid(0)
        var seen = Sighting()
        var count = 0
        var lastGroup: pid_t = 0
        files.visitAll { process in
            if process.pid == own || process.pid == excluded { return }
            if process.parent == own {
                seen.children += 1
                if !process.isDead { seen.isRestless = true }
                if process.group > 1, process.group != lastGroup, process.group != ownGroup,
                    process.session != ownSession
                {
                    kill(-process.group, SIGKILL)
                    lastGroup = process.group
                }
                if !process.isDead { kill(process.pid, SIGKILL) }
            }
            if count < table.count {
                table.initializeElement(at: count, to: process)
                inTree.initializeElement(at: count, to: process.parent == own)
                count += 1
            }
        }
        markDescendants(count)
        for index in 0..<count where inTree[index] && table[index].parent != own && !table[index].isDead {
            seen.isRestless = true
            killDeep(table[index])
        }
        return seen
    }

    /// Spreads the mark from the direct children to all below them. Parents mostly have smaller pids than their children,
    /// so one pass nearly does it; the bound is for a table that other processes changed while it was read.
    private func markDescendants(_ count: Int) {
        for _ in 0..<64 {
            var changed = false
            for index in 0..<count where !inTree[index] {
                guard let parent = find(table[index].parent, count), inTree[parent] else { continue }
                inTree[index] = true
                changed = true
            }
            if !changed { return }
        }
    }

    private func find(_ pid: pid_t, _ count: Int) -> Int? {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if table[middle].pid < pid { low = middle + 1 } else { high = middle }
        }
        return low < count && table[low].pid == pid ? low : nil
    }

    private func killDeep(_ process: ProcessStat) {
        let pidfd = clinux_pidfd_open(process.pid)
        guard pidfd >= 0 else { return }
        defer { close(pidfd) }
        // Same pid, start and parent after the pidfd was made: it is the process that was seen, and still below us.
        guard let now = files.stat(of: process.pid), now.startTime == process.startTime, now.parent == process.parent
        else {
            return
        }
        _ = clinux_pidfd_send_signal(pidfd, SIGKILL)
    }
}
