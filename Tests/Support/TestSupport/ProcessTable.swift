// What /proc says about processes: who is alive, whose child, started with which environment. Tests find the guard and
// the members of a tree with it, from outside, without asking the program under test.

import CLinux
import Glibc
import Synchronization

/// One living process.
public struct RunningProcess: Sendable, CustomStringConvertible {
    public let pid: pid_t
    public let parent: pid_t
    /// Its process group.
    public let group: pid_t
    /// R, S, D, T, Z ... as in proc(5).
    public let state: Character
    /// Its name, cut at 15 bytes by the kernel.
    public let name: String

    public var description: String { "\(name) \(pid) (\(state), child of \(parent))" }

    /// Reads /proc/PID/stat; nil when there is no such process.
    public init?(_ pid: pid_t) {
        // The name stands in brackets and may hold brackets and spaces itself: the last one closes it.
        guard let bytes = ProcessTable.read("/proc/\(pid)/stat") else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: close)...].split(separator: " ")
        guard fields.count > 2, let state = fields[0].first, let parent = pid_t(fields[1]), let group = pid_t(fields[2])
        else { return nil }
        self.pid = pid
        self.parent = parent
        self.group = group
        self.state = state
        name = String(text[text.index(after: open)..<close])
    }
}

/// Every process of this machine that we may see.
public enum ProcessTable {
    private static let overlooked = Mutex<Set<pid_t>>([])

    /// Processes that are nobody's business, by the thousand: to look at each of them again and again would take a whole
    /// processor. Replaces those that were named before. Only as long as none of them has been reaped.
    public static func overlook(_ pids: Set<pid_t>) { overlooked.withLock { $0 = pids } }

    /// All of them, zombies included.
    public static func all() -> [RunningProcess] {
        pids().compactMap { RunningProcess($0) }
    }

    /// The children of a process.
    public static func children(of parent: pid_t) -> [RunningProcess] {
        // Each thread has its own; and not every kernel tells (CONFIG_PROC_CHILDREN).
        let lists = numbers(in: "/proc/\(parent)/task").map { "/proc/\(parent)/task/\($0)/children" }
        guard let first = lists.first, access(first, R_OK) == 0 else { return all().filter { $0.parent == parent } }
        return lists.flatMap { String(decoding: read($0) ?? [], as: UTF8.self).split(separator: " ") }
            .compactMap { pid_t($0) }.compactMap { RunningProcess($0) }.filter { $0.parent == parent }
    }

    /// The living processes, zombies left out, that were started with all of these variables. Looks up to three times
    /// before it says that there are none: one look can miss a process that hops from pid to pid.
    public static func processes(with variables: [String: String]) -> [RunningProcess] {
        for _ in 1...3 {
            let found = look(for: variables)
            if !found.isEmpty { return found }
        }
        return []
    }

    private static func look(for variables: [String: String]) -> [RunningProcess] {
        let wanted = variables.map { Array("\($0.key)=\($0.value)".utf8) }
        // A zombie has no environment left; the ones of other tests can be thousands.
        return pids().filter { pid in
            guard let environment = read("/proc/\(pid)/environ") else { return false }
            return wanted.allSatisfy { contains(environment, word: $0) }
        }
        .compactMap { RunningProcess($0) }.filter { $0.state != "Z" && $0.state != "X" }
    }

    /// Whether that word is in a list of words that each end with a zero. With the C library's functions: without optimisation
    /// Swift's take milliseconds for what is looked through a hundred times a second.
    private static func contains(_ list: [UInt8], word: [UInt8]) -> Bool {
        list.withUnsafeBytes { list in
            var from = 0
            while from < list.count, let start = list.baseAddress.map({ $0 + from }) {
                let length = strnlen(start.assumingMemoryBound(to: CChar.self), list.count - from)
                if length == word.count, memcmp(start, word, length) == 0 { return true }
                from += length + 1
            }
            return false
        }
    }

    /// The pids of the living processes that were started with that KEY=VALUE, of those, too, whose main thread has ended while
    /// others run on.
    public static func pids(with variable: String) -> [pid_t] {
        let word = Array(variable.utf8)
        return pids().filter { pid in
            if let environment = read("/proc/\(pid)/environ") { return contains(environment, word: word) }
            return numbers(in: "/proc/\(pid)/task").contains { thread in
                read("/proc/\(pid)/task/\(thread)/environ").map { contains($0, word: word) } ?? false
            }
        }
    }

    /// The name of a process; empty when there is none.
    public static func name(_ pid: pid_t) -> Substring { text("/proc/\(pid)/comm").prefix { $0 != "\n" } }

    /// The value of one line of /proc/PID/status, without what follows its first word.
    public static func status(_ pid: pid_t, _ name: String) -> Substring? {
        let line = text("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix(name + ":") }
        return line?.dropFirst(name.count + 1).split(whereSeparator: \.isWhitespace).first
    }

    /// Not even a zombie's main thread counts as life, unless others run on.
    public static func isAlive(_ pid: pid_t) -> Bool { status(pid, "State").map { !["Z", "X"].contains($0) } ?? false }

    /// It has ended, and its parent has not asked how.
    public static func isZombie(_ pid: pid_t) -> Bool { status(pid, "State") == "Z" }

    /// It waits for something, and has no child left, not even a dead one: all that it had to say about them is said.
    public static func isSettled(_ pid: pid_t) -> Bool {
        let isChildless = !pids().contains { status($0, "PPid") == Substring(String(pid)) }
        return isChildless && status(pid, "State") == "S"
    }

    /// What is in a file; nothing when it cannot be read.
    public static func text(_ path: String) -> String { String(decoding: bytes(path) ?? [], as: UTF8.self) }

    /// All of a file, however long it is.
    public static func bytes(_ path: String) -> [UInt8]? {
        let file = clinux_open(path, O_RDONLY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Glibc.read(file, &part, part.count)
            guard count > 0 else { return all }
            all += part[..<count]
        }
    }

    /// The environment a process was started with, as KEY=VALUE.
    public static func environment(of pid: pid_t) -> Set<String> {
        guard let bytes = read("/proc/\(pid)/environ") else { return [] }
        return Set(bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
    }

    /// The pids of all of them, zombies included.
    public static func pids() -> [pid_t] {
        let overlooked = overlooked.withLock { $0 }
        let pids = numbers(in: "/proc")
        return overlooked.isEmpty ? pids : pids.filter { !overlooked.contains($0) }
    }

    /// The names in a folder that are numbers.
    private static func numbers(in folder: String) -> [pid_t] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var pids: [pid_t] = []
        while let entry = readdir(directory) {
            let pid = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { atoi($0) }
            }
            if pid > 0 { pids.append(pid) }
        }
        return pids
    }

    /// Straight system calls: scenarios look through all of /proc every 10 ms while they wait.
    static func read(_ path: String) -> [UInt8]? {
        let file = clinux_open(path, O_RDONLY)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 32768) { buffer, count in
            count = max(0, Glibc.read(file, buffer.baseAddress, buffer.count))
        }
        return bytes.isEmpty ? nil : bytes
    }
}
