// Kills everything that descends from the calling thread, by ancestry alone. The guard uses it on the child's tree.
// The keeper uses it on the processes that it inherits when the guard has died, and on what is below a guard that
// cannot die. Guarantees: only descendants are ever signalled, and a tree is called empty only when waitpid(2) knows
// no child. The one exception is the tree below a guard that got SIGKILL and yet does not die: `sweep(below:)`
// says under which conditions.
//
// How long it takes depends on the tree alone, and not on the number of other processes: the `children` files of
// /proc (proc_pid_task(5)) say whom to kill. On a kernel that lacks them (CONFIG_PROC_CHILDREN), all of /proc is
// looked through instead.

import CLinux
import Glibc
import Orders

/// The descendants of the main thread of a process that is a subreaper (PR_SET_CHILD_SUBREAPER), so that an orphan
/// becomes its child and never escapes.
///
/// Only the main thread may use it, and nothing else may reap what belongs to that thread: a pid is safe to signal
/// because only this value can free it. Makes its buffers at `init` and allocates nothing later.
///
/// A child belongs to the thread that started it, and an orphan to the main thread. A helper program that another
/// thread of the keeper has started is neither signalled, nor reaped, nor waited for here: that thread does it
/// (HelperPrograms). What a helper program leaves behind becomes an orphan, and then belongs to the tree.
///
/// How each descendant is reached without ever hitting a pid that was given to another process:
/// - A direct child keeps its pid until it is reaped here: kill(2). So does its process group, which kill(2) signals
///   as a whole, and no fork inside the group can escape that. A group is signalled only in a session that is not our
///   own. A descendant founded such a session, so no stranger can be in it. None of this reads what `hidepid` may
///   hide.
/// - A deeper descendant is reached through a pidfd, after a second look has shown that its parent is still a
///   descendant. If the signal then arrives, the pid was not reaped in between, so it named the same process all the
///   while. Where that is not possible, its turn comes when its parent is dead and it has become a direct child.
public struct Tree: ~Copyable {
    /// How far one call of `sweep` has come.
    public enum Progress: Equatable, Sendable {
        /// There is more to look at: call again at once, after what else is urgent.
        case unfinished
        /// All have been signalled, and something is left. Call again after a short wait.
        case alive
        /// Nothing is left.
        case empty
    }

    /// A guard that got SIGKILL and has not died: it is traced, frozen, or in state D.
    public struct Condemned: Equatable, Sendable {
        /// Its pid; not reaped yet.
        public let pid: pid_t
        /// Its `children` file, opened while it could still be read, or -1.
        let children: Int32
        /// Its pidfd, or -1.
        let descriptor: Int32

        /// It has ended, whether it is reaped or not.
        public var hasEnded: Bool { descriptor >= 0 && Tree.hasEnded(descriptor) }
    }

    /// Whose descendants a sweep is about.
    private enum Root: Equatable {
        case own(excluded: pid_t?)
        case below(Condemned)
        /// What has fallen past such a guard to this process.
        case past(Condemned)
    }

    /// What a sweep does next.
    private enum Phase {
        case begin
        case children
        case descendants
        case scan
        case scanned(next: Int, count: Int)
    }

    /// A process whose children are still to be looked for.
    private struct Node {
        let pid: pid_t
        let startTime: UInt64
        /// It cannot be reaped during this sweep.
        let isPinned: Bool
    }

    private struct Sighting {
        var children = 0
        /// Some process was not dead yet.
        var isRestless = false
        /// Every child of the root was seen.
        var isComplete = true
    }

    /// How many processes or threads one call looks at: a millisecond or two, so that the guard answers its keeper in
    /// time.
    private static let slice = 256
    /// How many children of one descendant are looked at in one sweep, and how often a sweep looks for new ones at
    /// its end.
    private static let mostBelowOne = 4096
    private static let mostChases = 64

    private var files = ProcessFiles()
    private let own = getpid()
    /// The `children` file of the main thread, to which orphans fall. Open from the start, because a tree can use up
    /// all the files that may be open. -1 if the kernel has none.
    private let ownChildren: Int32
    private let hasChildrenFiles: Bool
    private var children = PidList()
    private var below = PidList()
    private var again = PidList()
    private var threadsBelow = ThreadList()

    private var root = Root.own(excluded: nil)
    private var phase = Phase.begin
    private var seen = Sighting()
    private var restlessSweeps = 0
    /// Nothing in the list of a condemned guard was alive in this sweep.
    private var isClearBelow = false
    private var chases = 0
    private var lastGroup: pid_t = 0
    /// Whether a condemned guard will reap no more: it was seen not to run after it got SIGKILL.
    private var isSettled = false
    /// The living processes of one sweep whose children are still to be looked for. Those that do not fit have their
    /// turn later.
    private let nodes: UnsafeMutableBufferPointer<Node>
    private var nodeCount = 0
    private var nodesDone = 0
    /// The processes of one scan of /proc in ascending order of pid.
    private let table: UnsafeMutableBufferPointer<ProcessStat>
    private let inTree: UnsafeMutableBufferPointer<Bool>
    private var found = 0
    /// The first few that were alive in this sweep, and those of the last whole one.
    private var living = Sightings()
    private var lastLiving = Sightings()
    private var dead = Sightings()
    private var lastDead = Sightings()

    /// Makes the buffers and opens /proc.
    /// - Parameter childrenFiles: false to do as on a kernel that has no such files.
    public init(childrenFiles: Bool = true) {
        let capacity = 32 * 1024
        nodes = .allocate(capacity: capacity)
        table = .allocate(capacity: capacity)
        inTree = .allocate(capacity: capacity)
        ownChildren = childrenFiles && files.isUsable ? files.children(of: getpid(), thread: getpid()) : -1
        hasChildrenFiles = ownChildren >= 0
        // The kernel's own buffer for this file is made by its first read.
        children.begin(ownChildren)
        _ = children.next()
    }

    deinit {
        if ownChildren >= 0 { close(ownChildren) }
        nodes.deallocate()
        table.deallocate()
        inTree.deallocate()
    }

    /// Whether processes can be seen: /proc is mounted and shows our own PID namespace. Otherwise a tree cannot be
    /// killed.
    public var isUsable: Bool { files.isUsable }

    /// Whether /proc shows this process's own PID namespace. In another one's, every pid would name another process.
    public static var seesOwnProcesses: Bool { ProcessFiles.isOwn() }

    /// The first few processes that the last whole sweep saw alive.
    public var survivors: [SeenProcess] { lastLiving.all }
    /// The same. If there are none, the first few that are dead but cannot be reaped, because they are traced.
    public var remains: [SeenProcess] { lastLiving.all.isEmpty ? lastDead.all : lastLiving.all }

    /// Reaps every child that has ended and tells `reaped` its pid and wait status.
    /// - Returns: whether the calling thread now has no child at all (waitpid(2) says ECHILD).
    @discardableResult
    public mutating func reap(_ reaped: (pid_t, Int32) -> Void) -> Bool {
        // A sweep that is under way finds its place by counting our children.
        switch root {
        case .own, .past: abandon()
        case .below: break
        }
        // Bounded: children that end faster than they can be reaped must not delay the check of the deadline.
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

    /// Sends SIGKILL to every living descendant, then reaps. To be repeated, with short waits, until it returns
    /// `.empty`.
    /// - Parameters:
    ///   - excluded: a child that is left alone with all its descendants, or nil. It is meant for a guard that is
    ///     dead and cannot be reaped, because it is traced.
    ///   - reaped: told the pid and wait status of each child that was reaped, the excluded one included.
    /// - Returns: `.empty` if nothing is left. Without `excluded`: waitpid(2) says ECHILD. With it: the lists of
    ///   children, from which only this value removes, hold no other. (Every living descendant has an ancestor in
    ///   them.)
    public mutating func sweep(excluding excluded: pid_t? = nil, reaped: (pid_t, Int32) -> Void) -> Progress {
        guard advance(.own(excluded: excluded)) else { return .unfinished }
        // While some process is alive, the dead are not reaped. They count against every limit on processes
        // (pids.max, RLIMIT_NPROC, pid_max), so a tree that forks faster than it can be killed runs out of room to
        // fork. This does not go on forever, since other programs live under those limits too.
        restlessSweeps = seen.isRestless ? restlessSweeps + 1 : 0
        if seen.isRestless, restlessSweeps % 32 != 0 { return .alive }
        let isEmpty = reap(reaped)
        return isEmpty || (excluded != nil && seen.isComplete && seen.children == 0) ? .empty : .alive
    }

    /// Sends SIGKILL to every living descendant of a guard that does not die, and to what fell past it to this process.
    /// The guard must have got SIGKILL, with success: then it makes no child any more. Its dead children do not count,
    /// since no process can reap them.
    ///
    /// Orphans fall to the guard while it lives. But as soon as the kernel begins to end the guard, they fall past it
    /// to this process. Only at the end of that is the guard a zombie, and that takes time: it has memory and files to
    /// give back, and needs a processor for it. So the guard's list alone does not show that nothing is alive.
    /// - Returns: `.empty` if nothing of the tree is alive while the guard still is. This is sure: first every child in
    ///   the guard's list was seen to be dead, then every other child in this process's list. The dead have no
    ///   children. A later child of the guard can only come from a descendant that was alive, and then a living child
    ///   would have been in its list. A later child of ours was ours before we read our list, or comes from one that
    ///   was alive.
    public mutating func sweep(below guardian: Condemned) -> Progress {
        if root != .past(guardian) {
            guard advance(.below(guardian)) else { return .unfinished }
            isClearBelow = !seen.isRestless && seen.isComplete
            root = .past(guardian)
        }
        guard advance(.past(guardian)) else { return .unfinished }
        // The next sweep begins below it again.
        root = .below(guardian)
        guard isClearBelow, !seen.isRestless, seen.isComplete else { return .alive }
        // Had it died meanwhile, its children would be ours.
        if guardian.descriptor >= 0 { return guardian.hasEnded ? .alive : .empty }
        guard let now = files.stat(of: guardian.pid) else { return .alive }
        return now.isDead ? .alive : .empty
    }

    // MARK: One sweep, in slices

    /// Continues the sweep. Returns whether it is complete.
    private mutating func advance(_ root: Root) -> Bool {
        if root != self.root { abandon() }
        self.root = root
        var budget = Tree.slice
        while budget > 0 {
            switch phase {
            case .begin: begin()
            case .children:
                guard lookAtChildren(&budget) else { continue }
                // If the list cannot be read, every process that can be found in another way is killed all the same.
                if children.hasFailed { beginScan() } else { phase = .descendants }
            case .descendants:
                guard lookAtDescendants(&budget) else { continue }
                // A tree whose processes do nothing but fork and exit has new ones by now.
                chases += 1
                guard seen.isRestless, chases < Tree.mostChases, let pid = children.next() else { return end() }
                lookAt(child: pid)
                phase = .children
            case .scan: if scan(&budget) { phase = .scanned(next: 0, count: found) }
            case .scanned(let next, let count): if killScanned(next, count, &budget) { return end() }
            }
        }
        return false
    }

    private mutating func begin() {
        seen = Sighting()
        children.hasFailed = false
        if case .past = root {} else { (living, dead) = (Sightings(), Sightings()) }
        (nodeCount, nodesDone, found, chases, lastGroup) = (0, 0, 0, 0, 0)
        switch root {
        case .own, .past:
            guard hasChildrenFiles else { return beginScan() }
            children.begin(ownChildren)
            phase = .children
        case .below(let guardian):
            if !isSettled, let now = files.stat(of: guardian.pid), now.state != UInt8(ascii: "R") { isSettled = true }
            guard hasChildrenFiles, guardian.children >= 0 else { return beginScan() }
            children.begin(guardian.children)
            phase = .children
        }
    }

    private mutating func end() -> Bool {
        // A list that could not be read to its end says nothing about what it did not show.
        if children.hasFailed { seen.isComplete = false }
        lastLiving = living
        lastDead = dead
        abandon()
        return true
    }

    private mutating func abandon() {
        children.begin(-1)
        phase = .begin
    }

    // MARK: The root's children

    /// Returns whether all were seen.
    private mutating func lookAtChildren(_ budget: inout Int) -> Bool {
        while budget > 0 {
            budget -= 1
            guard let pid = children.next() else { return true }
            lookAt(child: pid)
        }
        return false
    }

    private mutating func lookAt(child pid: pid_t) {
        switch root {
        case .own(let excluded): if pid != excluded { lookAt(own: pid) }
        case .past(let guardian): if pid != guardian.pid { lookAt(own: pid) }
        case .below(let guardian): lookAt(pid, below: guardian)
        }
    }

    private mutating func lookAt(own pid: pid_t) {
        seen.children += 1
        // First of all. A signal to a dead child does no harm.
        kill(pid, SIGKILL)
        killGroup(of: pid)
        let stat = files.stat(of: pid)
        if stat?.isDead ?? isReapable(pid) { return dead.add(pid, stat) }
        note(pid, stat)
        add(Node(pid: pid, startTime: 0, isPinned: true))
    }

    private mutating func lookAt(_ pid: pid_t, below guardian: Condemned) {
        seen.children += 1
        let descriptor = clinux_pidfd_open(pid)
        defer { if descriptor >= 0 { close(descriptor) } }
        let stat = files.stat(of: pid)
        if stat?.isDead ?? (descriptor >= 0 && Tree.hasEnded(descriptor)) { return }
        note(pid, stat)
        if isSettled {
            // No process can reap it, except this very value once the guard is dead.
            kill(pid, SIGKILL)
            killGroup(of: pid)
        } else {
            guard descriptor >= 0, stat?.parent == guardian.pid || again.contains(pid, in: guardian.children) else {
                return
            }
            _ = clinux_pidfd_send_signal(descriptor, SIGKILL)
        }
        add(Node(pid: pid, startTime: stat?.startTime ?? 0, isPinned: isSettled))
    }

    /// Kills the process group of a child that keeps its pid.
    private mutating func killGroup(of pid: pid_t) {
        let group = getpgid(pid)
        guard group > 1, group != lastGroup, group != getpgrp(), getsid(pid) != getsid(0) else { return }
        kill(-group, SIGKILL)
        lastGroup = group
    }

    // MARK: Deeper descendants

    /// Returns whether all were seen.
    private mutating func lookAtDescendants(_ budget: inout Int) -> Bool {
        while budget > 0 {
            guard nodesDone < nodeCount else { return true }
            let node = nodes[nodesDone]
            nodesDone += 1
            budget -= 1
            lookBelow(node, &budget)
        }
        return false
    }

    private mutating func lookBelow(_ node: Node, _ budget: inout Int) {
        let directory = files.threads(of: node.pid)
        guard directory >= 0 else { return }
        threadsBelow.begin(directory)
        defer { threadsBelow.end() }
        var left = Tree.mostBelowOne
        while left > 0, let thread = threadsBelow.next() {
            let file = files.children(of: node.pid, thread: thread)
            left -= 1
            budget -= 1
            guard file >= 0 else { continue }
            below.begin(file)
            while left > 0, let pid = below.next() {
                strike(pid, childOf: node, listedIn: file)
                left -= 1
                budget -= 1
            }
            close(file)
        }
    }

    private mutating func strike(_ pid: pid_t, childOf node: Node, listedIn file: Int32) {
        let descriptor = clinux_pidfd_open(pid)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        guard let now = files.stat(of: pid) else {
            // Hidden from us (hidepid): only its parent's list says that it exists.
            guard !Tree.hasEnded(descriptor), again.contains(pid, in: file), isSame(node) else { return }
            note(pid, nil)
            _ = clinux_pidfd_send_signal(descriptor, SIGKILL)
            return
        }
        guard !now.isDead, now.parent == own || now.parent == node.pid && isSame(node) else { return }
        note(pid, now)
        let sent = clinux_pidfd_send_signal(descriptor, SIGKILL) == 0
        // A process that may not be killed can have children that may.
        if sent || errno == EPERM { add(Node(pid: pid, startTime: now.startTime, isPinned: false)) }
    }

    private func isSame(_ node: Node) -> Bool {
        node.isPinned || files.stat(of: node.pid)?.startTime == node.startTime
    }

    // MARK: All of /proc, if there are no lists

    private mutating func beginScan() {
        // Hidden processes were not seen, and a process can move to another parent while others are looked at.
        seen.isComplete = false
        files.rewind()
        phase = .scan
    }

    /// Returns whether all were seen.
    private mutating func scan(_ budget: inout Int) -> Bool {
        var rootPid = own
        var excluded: pid_t?
        switch root {
        case .own(let pid): excluded = pid
        case .past(let guardian): excluded = guardian.pid
        case .below(let guardian): rootPid = guardian.pid
        }
        while budget > 0 {
            budget -= 1
            guard let pid = files.next() else {
                markDescendants(found)
                return true
            }
            guard pid != own, pid != rootPid, pid != excluded, let process = files.stat(of: pid) else {
                continue
            }
            let isChild = process.parent == rootPid && isOurs(process)
            if isChild { lookAt(scanned: process) }
            if found < table.count {
                table.initializeElement(at: found, to: process)
                inTree.initializeElement(at: found, to: isChild)
                found += 1
            }
        }
        return false
    }

    /// A child of the root that nobody else looks after: no other thread's, who could reap it at any time.
    private func isOurs(_ child: ProcessStat) -> Bool {
        if case .below = root { return true }
        var information = siginfo_t()
        return clinux_look_at_child(child.pid, &information) == 0
    }

    private mutating func lookAt(scanned process: ProcessStat) {
        if case .below = root { return lookAt(child: process.pid) }
        seen.children += 1
        killGroup(of: process.pid)
        guard !process.isDead else { return }
        note(process.pid, process)
        kill(process.pid, SIGKILL)
    }

    /// Spreads the mark from the direct children to all their descendants. A parent mostly has a smaller pid than its
    /// child, so one pass is nearly enough. The bound is for a table that other processes changed while it was read.
    private mutating func markDescendants(_ count: Int) {
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

    /// Returns whether all have been signalled.
    private mutating func killScanned(_ next: Int, _ count: Int, _ budget: inout Int) -> Bool {
        var index = next
        while index < count, budget > 0 {
            if inTree[index], !table[index].isDead {
                note(table[index].pid, table[index])
                killScanned(table[index])
            }
            index += 1
            budget -= 1
        }
        phase = .scanned(next: index, count: count)
        return index == count
    }

    private func killScanned(_ process: ProcessStat) {
        let pidfd = clinux_pidfd_open(process.pid)
        guard pidfd >= 0 else { return }
        defer { close(pidfd) }
        // The pid, the start time and the parent are unchanged after the pidfd was made. So it is the process that
        // was seen, and it is still a descendant.
        guard let now = files.stat(of: process.pid), now.startTime == process.startTime, now.parent == process.parent
        else {
            return
        }
        _ = clinux_pidfd_send_signal(pidfd, SIGKILL)
    }

    // MARK: What was seen

    /// Notes a living process.
    private mutating func note(_ pid: pid_t, _ stat: ProcessStat?) {
        seen.isRestless = true
        living.add(pid, stat)
    }

    private mutating func add(_ node: Node) {
        guard nodeCount < nodes.count else { return }
        nodes.initializeElement(at: nodeCount, to: node)
        nodeCount += 1
    }

    /// Whether the process waits to be reaped. Asked without /proc, because the process may be hidden there.
    private func isReapable(_ pid: pid_t) -> Bool {
        var information = siginfo_t()
        return clinux_look_at_child(pid, &information) == 0 && information.si_signo == SIGCHLD
    }

    static func hasEnded(_ descriptor: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) == 1
    }
}

/// A few processes, kept without memory from the heap.
private struct Sightings {
    private typealias Entry = (pid: pid_t, state: UInt8, name: SIMD16<UInt8>)
    private static let most = 4
    private var entries: (Entry, Entry, Entry, Entry) = (
        (0, 0, SIMD16()), (0, 0, SIMD16()), (0, 0, SIMD16()), (0, 0, SIMD16())
    )
    private var count = 0

    mutating func add(_ pid: pid_t, _ stat: ProcessStat?) {
        guard count < Sightings.most else { return }
        let entry: Entry = (pid, stat?.state ?? UInt8(ascii: "?"), stat?.name ?? SIMD16())
        switch count {
        case 0: entries.0 = entry
        case 1: entries.1 = entry
        case 2: entries.2 = entry
        default: entries.3 = entry
        }
        count += 1
    }

    var all: [SeenProcess] {
        [entries.0, entries.1, entries.2, entries.3].prefix(count).map { entry in
            let bytes = (0..<16).map { entry.name[$0] }.prefix { $0 != 0 }
            return SeenProcess(pid: entry.pid, state: entry.state, name: String(decoding: bytes, as: UTF8.self))
        }
    }
}
