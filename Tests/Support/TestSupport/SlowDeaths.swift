// Who outlives SIGKILL, and why. It is the kernel that ends a process that was killed: one in uninterruptible sleep (state D)
// goes on, and holds its tree's lock, until what it waits for has come. No guard can help that (docs/protocol.md, "What
// cannot be promised"). But it excuses nothing unless it was seen: so the processes of every tree are sampled, and of those
// that were killed and are still there, their state and where in the kernel they are.

import Clock
import Glibc
import Synchronization

/// A thread that looks at the processes of all trees of a lease, many times a second.
public final class SlowDeaths: Sendable {
    /// How far apart two looks are where nothing is late.
    private static let rhythm = Duration.milliseconds(50)
    /// How far from an instant a look may be that says something about it.
    private static let reach = Duration.milliseconds(250)
    /// Shorter ones are every process's: ending one takes the kernel as long as it has memory and files to give back.
    private static let slow = Duration.milliseconds(500)

    /// A process that was there at a look.
    private struct Sight: Sendable {
        let pid: pid_t
        let state: Character
        /// SIGKILL is on its way to it, or it is on its way out.
        let isKilled: Bool
        /// Where in the kernel it is: only of one that was killed and is in state D.
        let stack: String

        /// Killed, and the kernel does not let go of it. One that is frozen or traced is held by somebody, not by the kernel.
        var isHeldByKernel: Bool {
            isKilled && state == "D" && !["refrigerator", "freezer", "ptrace_stop"].contains { stack.contains($0) }
        }
    }
    private struct Look: Sendable {
        let at: Instant
        let processes: [Sight]
    }

    /// A process, and the tree that its environment names.
    private struct Known {
        let tree: String?
        let looks: Int
        var isSettled: Bool { tree != nil || looks >= 20 }
    }

    private struct Shared {
        /// By tree (epoch and instance, as in the names of the locks): the looks at which one that was killed was there.
        var looks: [String: [Look]] = [:]
        public var slow: [String] = []
        var ended = false
    }
    private let shared = Mutex(Shared())

    /// Looks from now on.
    public init(lease: String) {
        startThread("slow deaths") { [self] in
            var known: [pid_t: Known] = [:]
            var killed: [pid_t: Instant] = [:]
            while !shared.withLock({ $0.ended }) {
                look(lease, &known, &killed)
                usleep(UInt32(Self.rhythm.milliseconds * 1000))
            }
        }
    }

    /// Looks no more.
    public func end() { shared.withLock { $0.ended = true } }

    private func look(_ lease: String, _ known: inout [pid_t: Known], _ killed: inout [pid_t: Instant]) {
        let pids = Set(ProcessTable.pids())
        known = known.filter { pids.contains($0.key) }
        // Only while it is new: the environment of one that ends may have to be waited for. One that has just been forked has
        // its parent's until its exec.
        for pid in pids where known[pid]?.isSettled != true {
            known[pid] = Known(tree: Self.tree(of: pid, lease), looks: (known[pid]?.looks ?? 0) + 1)
        }
        let members = known.compactMap { pid, known in known.tree.map { (pid: pid, tree: $0) } }
        let at = BootClock.now()
        let sights = Dictionary(grouping: members, by: \.tree).mapValues { $0.compactMap { Self.sight($0.pid) } }
        let dying = sights.values.joined().filter(\.isKilled)
        let ended = killed.filter { pid, since in
            !dying.contains { $0.pid == pid } && at.since(since) > Self.slow
        }
        killed = killed.filter { pid, _ in dying.contains { $0.pid == pid } }
        for each in dying where killed[each.pid] == nil { killed[each.pid] = at }
        shared.withLock { shared in
            for (tree, processes) in sights where processes.contains(where: \.isKilled) {
                shared.looks[tree, default: []].append(Look(at: at, processes: processes))
            }
            for (pid, since) in ended { shared.slow.append("\(pid): \(at.since(since).milliseconds) ms") }
        }
    }

    /// The tree that a process belongs to; nil where it is none of ours.
    private static func tree(of pid: pid_t, _ lease: String) -> String? {
        let words = ProcessTable.environment(of: pid)
        guard words.contains("SIDECAR_LEASE=\(lease)") else { return nil }
        func value(_ name: String) -> Substring? { words.first { $0.hasPrefix(name) }?.dropFirst(name.count) }
        guard let epoch = value("SIDECAR_EPOCH="), let instance = value("SIDECAR_INSTANCE=") else { return nil }
        return "\(epoch)-\(instance)-"
    }

    /// A process that is there and no zombie.
    private static func sight(_ pid: pid_t) -> Sight? {
        let status = ProcessTable.text("/proc/\(pid)/status").split(separator: "\n")
        func value(_ name: String) -> Substring? {
            status.first { $0.hasPrefix(name) }?.dropFirst(name.count).split(whereSeparator: \.isWhitespace).first
        }
        guard let state = value("State:")?.first else {
            // What cannot be read, for want of a file descriptor say, excuses nobody.
            return access("/proc/\(pid)", F_OK) == 0 ? Sight(pid: pid, state: "?", isKilled: false, stack: "") : nil
        }
        guard state != "Z", state != "X" else { return nil }
        let pending = ["SigPnd:", "ShdPnd:"].compactMap { value($0).flatMap { UInt64($0, radix: 16) } }
        let isKilled = pending.contains { $0 & 1 << (UInt64(SIGKILL) - 1) != 0 } || isExiting(pid)
        let stack = isKilled && state == "D" ? ProcessTable.text("/proc/\(pid)/stack") : ""
        return Sight(pid: pid, state: state, isKilled: isKilled, stack: stack)
    }

    /// It has begun to end: the kernel's flag for that (PF_EXITING), in the ninth field of proc(5)'s stat.
    private static func isExiting(_ pid: pid_t) -> Bool {
        let text = ProcessTable.text("/proc/\(pid)/stat")
        guard let close = text.lastIndex(of: ")") else { return false }
        let fields = text[close...].split(separator: " ")
        return fields.count > 7 && (UInt64(fields[7]) ?? 0) & 4 != 0
    }

    /// Whether all of a tree that was there at that instant was killed before and held by the kernel: the looks before
    /// and after, both near, saw nothing else of it.
    /// - Parameter tree: a name that begins with epoch and instance, as those of the locks.
    public func excuses(_ tree: String, at instant: Instant) -> Bool {
        let (before, after) = around(tree, instant)
        guard let before, before.processes.allSatisfy(\.isHeldByKernel) else { return false }
        return after?.processes.allSatisfy(\.isHeldByKernel) ?? true
    }

    /// What the looks around that instant saw of a tree.
    public func evidence(_ tree: String, at instant: Instant) -> String {
        let (before, after) = around(tree, instant)
        return [before, after].compactMap { $0 }.map { look in
            "  \(look.at.since(instant).milliseconds) ms: "
                + look.processes.map { process in
                    "\(process.pid) \(process.state)\(process.isKilled ? " killed" : "") "
                        + process.stack.split(separator: "\n").prefix(6).joined(separator: " < ")
                }.joined(separator: "; ")
        }.joined(separator: "\n")
    }

    private func around(_ tree: String, _ instant: Instant) -> (before: Look?, after: Look?) {
        let looks = shared.withLock { $0.looks.first { tree.hasPrefix($0.key) }?.value ?? [] }
        let near = looks.filter { $0.at >= instant - Self.reach && $0.at <= instant + Self.reach }
        return (near.last { $0.at <= instant }, near.first { $0.at > instant })
    }

    /// Those that took longer to end than any should.
    public var slow: [String] { shared.withLock { $0.slow } }
}
