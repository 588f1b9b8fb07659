// Kills everything that descends from the calling process, by ancestry alone. The guard uses it on the child's tree; the
// keeper on what falls to it when the guard has died, and on what is below a guard that cannot die. Guarantees: no process is
// ever signalled that is not a descendant, and a tree is called empty only when waitpid(2) knows no child. The one
// exception is the tree below a guard that was SIGKILLed and yet does not die: `sweep(below:reaped:)` says what it takes.
//
// How long it takes depends on how many processes the tree has: not on how they hang together, not on how many of its dead
// nobody reaps, and not on how many other processes there are. Whom to kill is read from the `children` files of /proc
// (proc_pid_task(5)). A kernel that lacks them (CONFIG_PROC_CHILDREN) has all of /proc looked through instead.
//
// Each process is killed only when its children have been listed: who is dead has none any more, since they have fallen to
// somebody else. Killed before that, each process of a long chain would have to die before the next could be seen. But who does
// nothing but fork and exit does not wait to be listed. So whoever may be forking is stopped (SIGSTOP) as soon as it is
// found, which keeps it from forking as well as a kill would.

import CLinux
import Glibc
import Orders

/// The descendants of the calling process, which must be a subreaper (PR_SET_CHILD_SUBREAPER), so that an orphan becomes
/// its child and never escapes.
///
/// Only one thread may use it, and nothing else in the process may reap: a pid is safe to signal because nobody but this
/// value can free it. Makes its buffers at `init` and allocates nothing later.
///
/// How each is reached without ever hitting a pid that was given to somebody else:
/// - A direct child keeps its pid until reaped here: kill(2). So does its process group, which kill(2) signals as a whole,
///   and no fork inside it can escape that. A group is signalled only in a session that is not our own: such a session was
///   founded by a descendant, so nobody else can be in it. All of this is done without reading what `hidepid` may hide.
/// - A deeper one through a pidfd, after a look through it has shown either that its parent is a descendant still, or that it
///   is, by its start time, the process of which that was seen before: it cannot leave the tree. If the signal then
///   arrives, the pid was not reaped in between, so it was that process's all the while. Where that cannot be
///   had, its turn comes when its parent is dead and it has become a direct child.
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

    /// A guard that was SIGKILLed and has not died: traced, frozen, in state D.
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
    }

    /// What a sweep does next.
    private enum Phase {
        case begin
        /// Those that earlier sweeps have left alive: of the first `next`, `left` still are.
        case kept(next: Int, left: Int)
        /// The children of other threads than the main one.
        case others
        case children
        case scan
        case scanned(next: Int, count: Int)
    }

    /// Somebody below whom to look.
    private struct Node {
        let pid: pid_t
        let startTime: UInt64
        /// A child of the root that nobody can reap during this sweep.
        let isPinned: Bool
        /// When it was seen, it had the main thread alone.
        let hasOneThread: Bool
    }

    private struct Sighting {
        var children = 0
        /// Somebody was not dead yet.
        var isRestless = false
        /// Every child of the root was seen, now or by the sweeps before.
        var isComplete = true
        /// The list was read from its beginning, and to its end.
        var isFull = false
        var hasReachedEnd = false
        /// The root has got children since the last sweep, or during this one.
        var hasNews = false
    }

    /// How many processes or threads one call looks at: a millisecond or two, so that the guard answers its keeper in time.
    private static let slice = 128
    /// After how many of them it looks for new ones, and what reading a part of the list counts for.
    private static let turn = 32
    /// How many threads and children of one process are looked at before it is killed: the rest then fall to the root all at
    /// once, where its newest are stopped first. And how often a sweep looks for new ones at its end.
    private static let mostThreads = 4096
    private static let mostBelowOne = 64
    private static let mostChases = 64
    /// How many dead one call reaps.
    private static let mostReaped = 256

    private var files = ProcessFiles()
    private let own = getpid()
    /// The `children` file of the main thread, to which orphans fall. Open from the start: a tree can use up all files
    /// that there may be. -1 where the kernel has none.
    private let ownChildren: Int32
    private let hasChildrenFiles: Bool
    /// The root's, where orphans fall to.
    private var children = PidList()
    private var others = PidList()
    private var below = PidList()
    private var again = PidList()
    private var ownThreads = ThreadList()
    private var threadsBelow = ThreadList()
    /// The `children` file of another own thread, and of who is being looked below; or -1.
    private var otherChildren: Int32 = -1
    private var fileBelow: Int32 = -1
    /// How many more children and threads of that one are looked at; nil where nobody is being looked below.
    private var leftBelow: Int?
    private var leftThreads = 0
    /// Its pidfd, where it is not pinned.
    private var visited: Int32 = -1

    private var root = Root.own(excluded: nil)
    private var phase = Phase.begin
    private var seen = Sighting()
    private var restlessSweeps = 0
    private var isReaping = false
    private var chases = 0
    private var lastGroup: pid_t = 0
    /// Whether a condemned guard will reap no more: it was seen not to run since it was SIGKILLed.
    private var isSettled = false
    /// As long as nobody reaps, the list of the root's children only grows: then a sweep reads on where the last one ended. Of
    /// those before that, only the ones that were alive are looked at again. `kept` holds them, unless they were too many.
    private var readsOn = false
    private let kept: UnsafeMutableBufferPointer<pid_t>
    private var keptCount = 0
    /// What the list has shown and nobody has looked at yet: the entries from `firstListed` to `endListed`.
    private let listed: UnsafeMutableBufferPointer<pid_t>
    private var firstListed = 0
    private var endListed = 0
    /// Whose turn it is: the newest, or the oldest.
    private var takesNewest = true
    /// The living of one sweep whose children are still to be looked for. What does not fit has its turn later.
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
        kept = .allocate(capacity: capacity)
        // Memory that nobody has written to costs nothing.
        listed = .allocate(capacity: 8 * capacity)
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
        if visited >= 0 { close(visited) }
        if fileBelow >= 0 { close(fileBelow) }
        if otherChildren >= 0 { close(otherChildren) }
        if ownChildren >= 0 { close(ownChildren) }
        kept.deallocate()
        listed.deallocate()
        nodes.deallocate()
        table.deallocate()
        inTree.deallocate()
    }

    /// Whether processes can be seen: /proc is mounted and is that of our pid namespace. Otherwise a tree cannot be killed.
    public var isUsable: Bool { files.isUsable }

    /// Whether /proc shows this process's own PID namespace. Of another one's, every pid would name somebody else.
    public static var seesOwnProcesses: Bool { ProcessFiles.isOwn() }

    /// The first few processes that the last whole sweep saw alive.
    public var survivors: [SeenProcess] { lastLiving.all }
    /// The same; where there are none, the first few that are dead and yet cannot be reaped, because somebody traces them.
    public var remains: [SeenProcess] { lastLiving.all.isEmpty ? lastDead.all : lastLiving.all }

    /// Whether the last whole sweep saw processes come: the tree forks, or orphans fall to the root. Then the next sweep must
    /// not wait.
    public private(set) var isMoving = false

    /// Reaps every child that has ended and tells `reaped` its pid and wait status.
    /// - Returns: whether the calling process now has no child at all (waitpid(2) says ECHILD).
    @discardableResult
    public mutating func reap(_ reaped: (pid_t, Int32) -> Void) -> Bool {
        // Bounded: children that end faster than they can be reaped must not hold up a deadline.
        reap(atMost: 4096, reaped) ?? false
    }

    /// - Returns: nil if more may have ended.
    private mutating func reap(atMost count: Int, _ reaped: (pid_t, Int32) -> Void) -> Bool? {
        // A sweep finds its place by counting our children.
        if case .own = root { forget() }
        for _ in 0..<count {
            var status: Int32 = 0
            let pid = clinux_reap(&status)
            if pid > 0 {
                reaped(pid, status)
            } else if pid == 0 || errno != EINTR {
                return pid < 0 && errno == ECHILD
            }
        }
        return nil
    }

    /// Sends SIGKILL to every living descendant, then reaps. To be repeated, with short waits, until it returns `.empty`.
    /// - Parameters:
    ///   - excluded: a child that is left alone with all that descends from it, or nil: a guard that is dead and cannot be
    ///     reaped, because somebody traces it.
    ///   - reaped: told the pid and wait status of each child that was reaped, the excluded one included.
    /// - Returns: `.empty` if nothing is left. Without `excluded`: waitpid(2) says ECHILD. With it: the lists of children,
    ///   which only this value makes shorter, hold no other. (Whoever is alive below has an ancestor in them.)
    public mutating func sweep(excluding excluded: pid_t? = nil, reaped: (pid_t, Int32) -> Void) -> Progress {
        turn(to: .own(excluded: excluded))
        if !isReaping {
            guard advance() else { return .unfinished }
            // While there is still life, the dead are left lying: they count against every limit on processes (pids.max,
            // RLIMIT_NPROC, pid_max), so a tree that forks faster than it can be killed runs out of room to fork. Not for
            // ever, since others live under those limits too.
            if seen.isRestless, restlessSweeps % 32 != 0 { return .alive }
        }
        let isChildless = reap(atMost: Tree.mostReaped, reaped)
        isReaping = isChildless == nil
        guard let isChildless else { return .unfinished }
        let isAlone = excluded != nil && seen.isFull && seen.isComplete && seen.children == 0
        return isChildless || isAlone ? .empty : .alive
    }

    /// Sends SIGKILL to every living descendant of a guard that does not die. The guard must have been SIGKILLed, with
    /// success: then it makes no child any more. Its dead children are not counted, since nobody can reap them.
    /// - Returns: `.empty` if nothing below it is alive while it still is. That is sure: every child in the list that the
    ///   kernel keeps was seen to be dead, and the dead have no children; whoever became a child later fell to the guard from
    ///   one that was alive, so there was one in the list.
    public mutating func sweep(below guardian: Condemned) -> Progress {
        turn(to: .below(guardian))
        guard advance() else { return .unfinished }
        guard !seen.isRestless, seen.isComplete else { return .alive }
        // Had it died meanwhile, its children would be ours.
        if guardian.descriptor >= 0 { return guardian.hasEnded ? .alive : .empty }
        guard let now = files.stat(of: guardian.pid) else { return .alive }
        return now.isDead ? .alive : .empty
    }

    // MARK: One sweep, in slices

    private mutating func turn(to root: Root) {
        guard root != self.root else { return }
        forget()
        self.root = root
    }

    /// Looks on; says whether the sweep is through.
    private mutating func advance() -> Bool {
        var budget = Tree.slice
        while budget > 0 {
            switch phase {
            case .begin: begin()
            case .kept(let next, let left): if lookAtKept(next, left, &budget) { beginOthers() }
            case .others: if lookAtOthers(&budget) { phase = .children }
            case .children:
                guard lookAtChildren(&budget) else { continue }
                // Where the list cannot be read, whoever can be found otherwise is killed all the same.
                guard children.hasFailed || ownThreads.hasFailed else { return end() }
                beginScan()
            case .scan: if scan(&budget) { phase = .scanned(next: 0, count: found) }
            case .scanned(let next, let count): if killScanned(next, count, &budget) { return end() }
            }
        }
        return false
    }

    private var rootPid: pid_t {
        switch root {
        case .own: own
        case .below(let guardian): guardian.pid
        }
    }

    /// Whether nobody but this value can reap the root's children.
    private var pinsChildren: Bool {
        switch root {
        case .own: true
        case .below: isSettled
        }
    }

    private mutating func begin() {
        seen = Sighting()
        children.hasFailed = false
        ownThreads.hasFailed = false
        living = Sightings()
        dead = Sightings()
        (nodeCount, nodesDone, found, chases, lastGroup) = (0, 0, 0, 0, 0)
        var list = ownChildren
        if case .below(let guardian) = root {
            list = guardian.children
            if !isSettled, let now = files.stat(of: guardian.pid), now.state != UInt8(ascii: "R") { isSettled = true }
        }
        guard hasChildrenFiles, list >= 0 else { return beginScan() }
        seen.isFull = !readsOn
        if !readsOn {
            children.begin(list)
            readsOn = pinsChildren
        }
        phase = .kept(next: 0, left: 0)
    }

    private mutating func end() -> Bool {
        // A list that could not be read to its end says nothing about what it did not show.
        let hasFailed = children.hasFailed || ownThreads.hasFailed
        if hasFailed { seen.isComplete = false }
        lastLiving = living
        lastDead = dead
        isMoving = seen.hasNews
        restlessSweeps = seen.isRestless ? restlessSweeps + 1 : 0
        abandon()
        if hasFailed || !readsOn { forget() }
        return true
    }

    private mutating func abandon() {
        closeOther()
        closeBelow()
        ownThreads.end()
        phase = .begin
    }

    /// Whatever is known of the root's children no longer holds.
    private mutating func forget() {
        abandon()
        children.begin(-1)
        (keptCount, firstListed, endListed) = (0, 0, 0)
        (readsOn, isReaping) = (false, false)
    }

    // MARK: The root's children

    /// Says whether all were seen.
    private mutating func lookAtKept(_ next: Int, _ left: Int, _ budget: inout Int) -> Bool {
        var (next, left) = (next, left)
        while next < keptCount {
            guard budget > 0, lookAtDescendants(&budget) else {
                phase = .kept(next: next, left: left)
                return false
            }
            budget -= 1
            let pid = kept[next]
            next += 1
            guard lookAt(child: pid) else { continue }
            kept[left] = pid
            left += 1
        }
        keptCount = left
        return true
    }

    private mutating func beginOthers() {
        phase = .children
        guard case .own = root else { return }
        ownThreads.begin(files.threads(of: own))
        phase = .others
    }

    /// The children of the other own threads. The main one is the one that orphans fall to. The guard has no other. Says
    /// whether all were seen.
    private mutating func lookAtOthers(_ budget: inout Int) -> Bool {
        while budget > 0, lookAtDescendants(&budget) {
            budget -= 1
            if otherChildren >= 0, let pid = others.next() {
                _ = lookAt(child: pid)
            } else if !openNextThread() {
                return true
            }
        }
        return false
    }

    private mutating func openNextThread() -> Bool {
        closeOther()
        while let thread = ownThreads.next() {
            if thread == own { continue }
            otherChildren = files.children(of: own, thread: thread)
            if otherChildren >= 0 {
                others.begin(otherChildren)
                return true
            }
            // One that has ended has no children any more. Anything else is a failure to look.
            if errno != ENOENT, errno != ESRCH { seen.isComplete = false }
        }
        ownThreads.end()
        return false
    }

    private mutating func closeOther() {
        if others.hasFailed { seen.isComplete = false }
        others.hasFailed = false
        if otherChildren >= 0 { close(otherChildren) }
        otherChildren = -1
    }

    /// Says whether all were seen.
    private mutating func lookAtChildren(_ budget: inout Int) -> Bool {
        while budget > 0 {
            // To the end of the list before anything else: who forks must not get the time that looking takes.
            guard readChildren(&budget) else { return false }
            var turn = min(budget, Tree.turn)
            budget -= turn
            while turn > 0, lookAtDescendants(&turn) {
                guard let pid = takeListed() else {
                    // Whoever was killed may have left orphans.
                    chases += 1
                    guard readOn() else { return true }
                    guard chases < Tree.mostChases else {
                        seen.isComplete = false
                        return true
                    }
                    continue
                }
                turn -= 1
                if lookAt(child: pid) { keep(pid) }
            }
            budget += max(turn, 0)
        }
        return false
    }

    /// Says whether the list's end was reached.
    private mutating func readChildren(_ budget: inout Int) -> Bool {
        while readOn() {
            budget -= Tree.turn
            if budget <= 0 { return false }
        }
        seen.hasReachedEnd = true
        return true
    }

    /// Reads a part of the list and stops whoever is in it. Says whether there was more.
    private mutating func readOn() -> Bool {
        guard children.readOn() else { return false }
        if !seen.isFull || seen.hasReachedEnd { seen.hasNews = true }
        if pinsChildren {
            var spared: pid_t?
            if case .own(let excluded) = root { spared = excluded }
            // Whoever came last is likeliest to be alive still, and has the least time left before it forks.
            children.newestFirst { pid in if pid != spared { kill(pid, SIGSTOP) } }
        }
        while !children.isDrained, let pid = children.next() { list(pid) }
        return true
    }

    private mutating func list(_ pid: pid_t) {
        if endListed < listed.count {
            listed[endListed] = pid
            endListed += 1
        } else if lookAt(child: pid) {
            keep(pid)
        }
    }

    /// Those that live are found at both ends: the oldest, like the command itself, and the newest.
    private mutating func takeListed() -> pid_t? {
        guard firstListed < endListed else {
            (firstListed, endListed) = (0, 0)
            return nil
        }
        takesNewest.toggle()
        if takesNewest {
            endListed -= 1
            return listed[endListed]
        }
        defer { firstListed += 1 }
        return listed[firstListed]
    }

    private mutating func keep(_ pid: pid_t) {
        guard readsOn else { return }
        if keptCount < kept.count {
            kept[keptCount] = pid
            keptCount += 1
        } else {
            readsOn = false
        }
    }

    /// Says whether it is alive.
    private mutating func lookAt(child pid: pid_t) -> Bool {
        guard root != .own(excluded: pid) else { return false }
        seen.children += 1
        let isPinned = pinsChildren
        let descriptor = clinux_pidfd_open(pid)
        defer { if descriptor >= 0 { close(descriptor) } }
        let hasEnded = descriptor >= 0 && Tree.hasEnded(descriptor)
        let stat = hasEnded ? nil : files.stat(of: pid)
        if hasEnded || stat?.isDead ?? (descriptor < 0 && isReapable(pid)) {
            // Others of its group may live.
            if isPinned { killGroup(of: pid) }
            if case .own = root, dead.hasRoom { dead.add(pid, stat ?? files.stat(of: pid)) }
            return false
        }
        note(pid, stat)
        let node = Node(
            pid: pid, startTime: stat?.startTime ?? 0, isPinned: isPinned, hasOneThread: stat?.hasOneThread ?? false)
        if !isPinned, case .below(let guardian) = root {
            guard descriptor >= 0, stat?.parent == guardian.pid || again.contains(pid, in: guardian.children) else {
                return true
            }
            guard let stat else {
                _ = clinux_pidfd_send_signal(descriptor, SIGKILL)
                return true
            }
            if stat.isRunning { _ = clinux_pidfd_send_signal(descriptor, SIGSTOP) }
        }
        add(node)
        return true
    }

    /// Of a child that keeps its pid.
    private mutating func killGroup(of pid: pid_t) {
        let group = getpgid(pid)
        guard group > 1, group != lastGroup, group != getpgrp(), getsid(pid) != getsid(0) else { return }
        kill(-group, SIGKILL)
        lastGroup = group
    }

    // MARK: Those below them

    /// Says whether all were seen.
    private mutating func lookAtDescendants(_ budget: inout Int) -> Bool {
        while budget > 0 {
            guard nodesDone < nodeCount else {
                (nodeCount, nodesDone) = (0, 0)
                return true
            }
            let node = nodes[nodesDone]
            if leftBelow == nil { visit(node) }
            guard lookBelow(node, &budget) else { continue }
            strikeVisited(node)
            nodesDone += 1
        }
        return false
    }

    private mutating func visit(_ node: Node) {
        leftBelow = 0
        if !node.isPinned {
            visited = clinux_pidfd_open(node.pid)
            // It was below us when it was seen, and nobody leaves. But its pid may be somebody else's by now.
            guard visited >= 0, files.stat(of: node.pid)?.startTime == node.startTime else { return closeBelow() }
        }
        leftBelow = Tree.mostBelowOne
        leftThreads = Tree.mostThreads
        if node.hasOneThread {
            fileBelow = files.children(of: node.pid, thread: node.pid)
            below.begin(fileBelow)
        } else {
            threadsBelow.begin(files.threads(of: node.pid))
        }
    }

    /// Says whether all were seen.
    private mutating func lookBelow(_ node: Node, _ budget: inout Int) -> Bool {
        while let left = leftBelow, left > 0 {
            guard budget > 0 else { return false }
            budget -= 1
            if fileBelow >= 0, let pid = below.next() {
                leftBelow = left - 1
                meet(pid, childOf: node)
            } else if !openNextThread(below: node) {
                break
            }
        }
        return true
    }

    private mutating func strikeVisited(_ node: Node) {
        if node.isPinned {
            kill(node.pid, SIGKILL)
            killGroup(of: node.pid)
        } else if visited >= 0 {
            _ = clinux_pidfd_send_signal(visited, SIGKILL)
        }
        closeBelow()
    }

    private mutating func openNextThread(below node: Node) -> Bool {
        if fileBelow >= 0 { close(fileBelow) }
        fileBelow = -1
        leftThreads -= 1
        guard leftThreads >= 0, threadsBelow.isOpen, let thread = threadsBelow.next() else { return false }
        fileBelow = files.children(of: node.pid, thread: thread)
        below.begin(fileBelow)
        return true
    }

    private mutating func closeBelow() {
        if fileBelow >= 0 { close(fileBelow) }
        fileBelow = -1
        threadsBelow.end()
        if visited >= 0 { close(visited) }
        visited = -1
        leftBelow = nil
    }

    private mutating func meet(_ pid: pid_t, childOf node: Node) {
        guard let now = files.stat(of: pid) else { return meetHidden(pid, childOf: node) }
        guard !now.isDead, isBelow(now, node) else { return }
        note(pid, now)
        if now.isRunning { stop(now) }
        add(Node(pid: pid, startTime: now.startTime, isPinned: false, hasOneThread: now.hasOneThread))
    }

    private func stop(_ process: ProcessStat) {
        let descriptor = clinux_pidfd_open(process.pid)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        guard files.stat(of: process.pid)?.startTime == process.startTime else { return }
        _ = clinux_pidfd_send_signal(descriptor, SIGSTOP)
    }

    /// Hidden from us (hidepid): that it is there says the list of its parent alone.
    private mutating func meetHidden(_ pid: pid_t, childOf node: Node) {
        let descriptor = clinux_pidfd_open(pid)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        guard !Tree.hasEnded(descriptor), again.contains(pid, in: fileBelow), isThere(node) else { return }
        note(pid, nil)
        _ = clinux_pidfd_send_signal(descriptor, SIGKILL)
    }

    private func isBelow(_ process: ProcessStat, _ node: Node) -> Bool {
        process.parent == rootPid || process.parent == node.pid && isThere(node)
    }

    /// Whether the one that is being looked below is alive, so that its pid is its own still.
    private func isThere(_ node: Node) -> Bool { node.isPinned || visited >= 0 && !Tree.hasEnded(visited) }

    /// Of one that was not looked below.
    private mutating func strike(_ node: Node) {
        if node.isPinned {
            kill(node.pid, SIGKILL)
            return killGroup(of: node.pid)
        }
        let descriptor = clinux_pidfd_open(node.pid)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        guard files.stat(of: node.pid)?.startTime == node.startTime else { return }
        _ = clinux_pidfd_send_signal(descriptor, SIGKILL)
    }

    // MARK: Everybody there is, where there is no list

    private mutating func beginScan() {
        // Whoever is hidden was not seen, and nothing is known of those that move while others are looked at.
        seen.isComplete = false
        files.rewind()
        phase = .scan
    }

    /// Says whether all were seen.
    private mutating func scan(_ budget: inout Int) -> Bool {
        while budget > 0, lookAtDescendants(&budget) {
            budget -= 1
            guard let pid = files.next() else {
                markDescendants(found)
                return true
            }
            guard pid != own, pid != rootPid, root != .own(excluded: pid), let process = files.stat(of: pid) else {
                continue
            }
            if process.parent == rootPid { lookAt(scanned: process) }
            if found < table.count {
                table.initializeElement(at: found, to: process)
                inTree.initializeElement(at: found, to: process.parent == rootPid)
                found += 1
            }
        }
        return false
    }

    private mutating func lookAt(scanned process: ProcessStat) {
        guard case .own = root else {
            _ = lookAt(child: process.pid)
            return
        }
        seen.children += 1
        killGroup(of: process.pid)
        guard !process.isDead else { return }
        note(process.pid, process)
        kill(process.pid, SIGKILL)
    }

    /// Spreads the mark from the direct children to all below them. Parents mostly have smaller pids than their children,
    /// so one pass nearly does it; the bound is for a table that other processes changed while it was read.
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

    /// Says whether all have been signalled.
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
        // Same pid, start and parent after the pidfd was made: it is the process that was seen, and still below us.
        guard let now = files.stat(of: process.pid), now.startTime == process.startTime, now.parent == process.parent
        else {
            return
        }
        _ = clinux_pidfd_send_signal(pidfd, SIGKILL)
    }

    // MARK: What was seen

    /// Somebody is alive.
    private mutating func note(_ pid: pid_t, _ stat: ProcessStat?) {
        seen.isRestless = true
        living.add(pid, stat)
    }

    private mutating func add(_ node: Node) {
        guard nodeCount < nodes.count else { return strike(node) }
        nodes.initializeElement(at: nodeCount, to: node)
        nodeCount += 1
    }

    /// It waits to be reaped: without /proc, for who is hidden there.
    private func isReapable(_ pid: pid_t) -> Bool {
        var information = siginfo_t()
        let found = waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT | Int32(bitPattern: 0x4000_0000))
        return found == 0 && information.si_signo == SIGCHLD
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

    var hasRoom: Bool { count < Sightings.most }

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
