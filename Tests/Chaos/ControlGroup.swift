// Control groups of the run's own (cgroups(7)): one with a processor quota, one that can be frozen, in version 1 or 2 of the
// interface, whichever this machine has. Processes are moved into one for a while and then back to where they came from.

import Foundation
import Synchronization
import TestSupport

/// A mounted hierarchy in which groups may be made.
struct ControlGroups: Sendable {
    enum Version: Sendable { case one, two }

    let version: Version
    /// New groups are made here.
    let root: String
    /// The group of this process, to which everything returns: each process that it starts is born there.
    let home: String

    /// A hierarchy with processor quotas; nil where none may be used.
    static let withQuotas = all(controller: "cpu").first { $0.works { try $0.limit(to: 500) } }
    /// The hierarchies whose groups can be frozen. One of version 1 keeps even a SIGKILL waiting, one of version 2 does not.
    static let freezable = all(controller: "freezer").filter { $0.works { try $0.freeze() } }

    /// Version 1 first. In version 2 each group can be frozen, and quotas are to be switched on.
    private static func all(controller: String) -> [ControlGroups] {
        let found = words(of: "/proc/self/mountinfo").compactMap { one(of: $0, controller: controller) }
        return found.filter { $0.version == .one } + found.filter { $0.version == .two }
    }

    /// From a line of mountinfo (proc(5)): number, parent, device, root, mount point, options, ..., "-", type, source, options
    /// of the file system, which name the controllers of version 1.
    private static func one(of mount: [String], controller: String) -> ControlGroups? {
        guard let dash = mount.firstIndex(of: "-"), dash > 4, mount.count > dash + 3 else { return nil }
        let (mounted, point, type) = (mount[3], mount[4], mount[dash + 1])
        let isOne = type == "cgroup" && mount[dash + 3].split(separator: ",").contains { $0 == controller }
        let isTwo = type == "cgroup2" && (controller != "cpu" || hasQuotas(point))
        guard isOne || isTwo else { return nil }
        // "number:controllers:path"; version 2 has no controllers there.
        var path = "/"
        for line in words(of: "/proc/self/cgroup", separator: ":") where line.count == 3 {
            let ours = isTwo ? line[1].isEmpty : line[1].split(separator: ",").contains { $0 == controller }
            if ours { path = line[2] }
        }
        if mounted != "/", path.hasPrefix(mounted) { path.removeFirst(mounted.count) }
        return ControlGroups(version: isTwo ? .two : .one, root: point, home: point + (path == "/" ? "" : path))
    }

    private static func hasQuotas(_ point: String) -> Bool {
        let file = point + "/cgroup.subtree_control"
        if !words(of: file).joined().contains("cpu") { try? put("+cpu", into: file) }
        return words(of: file).joined().contains("cpu")
    }

    /// Whether a group can be made here, set so, and removed.
    private func works(_ set: (ControlGroup) throws -> Void) -> Bool {
        guard let group = try? ControlGroup(named: "chaos-\(getpid())-trial", in: self) else { return false }
        let isSet = (try? set(group)) != nil
        return (try? group.remove()) != nil && isSet
    }
}

/// One group.
final class ControlGroup: Sendable {
    private static let made = Atomic(0)
    let path: String
    private let groups: ControlGroups

    /// Makes it. The prefix of the workplace in its name lets the janitor find it.
    convenience init(_ workplace: Workplace, in groups: ControlGroups) throws {
        let number = Self.made.add(1, ordering: .relaxed).newValue
        try self.init(named: "\(workplace.prefix)-\(number)", in: groups)
    }

    fileprivate init(named name: String, in groups: ControlGroups) throws {
        self.groups = groups
        path = "\(groups.root)/\(name)"
        guard mkdir(path, 0o755) == 0 else { throw Failure("cannot make \(path): errno \(errno)") }
    }

    /// The members, those of groups below it included: a guard may make one for its tree.
    var members: [pid_t] {
        all.flatMap { words(of: $0 + "/cgroup.procs").compactMap { pid_t($0.joined()) } }
    }

    /// This one, and then those below it.
    private var all: [String] {
        let list = "/cgroup.procs"
        let below = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return [path] + below.filter { $0.hasSuffix(list) }.map { "\(path)/\($0.dropLast(list.count))" }
    }

    /// Moves these in. One that has ended meanwhile is none.
    func add(_ pids: [pid_t]) throws {
        for pid in pids {
            do { try put("\(pid)", into: path + "/cgroup.procs") } catch {
                guard kill(pid, 0) != 0 else { throw error }
            }
        }
    }

    /// Gives it so many thousandths of one processor, and no less: on a busy machine it is the quota that it waits for.
    func limit(to thousandths: Int) throws {
        let period = 100_000
        let quota = thousandths * period / 1000
        switch groups.version {
        case .one:
            try put("8192", into: path + "/cpu.shares")
            try put("\(period)", into: path + "/cpu.cfs_period_us")
            try put("\(quota)", into: path + "/cpu.cfs_quota_us")
        case .two:
            try put("800", into: path + "/cpu.weight")
            try put("\(quota) \(period)", into: path + "/cpu.max")
        }
    }

    /// Takes the limit away.
    func unlimit() {
        switch groups.version {
        case .one: try? put("-1", into: path + "/cpu.cfs_quota_us")
        case .two: try? put("max", into: path + "/cpu.max")
        }
    }

    /// For how long its members had to wait for the quota, in milliseconds, added up over the processors.
    var throttled: Int {
        for line in words(of: path + "/cpu.stat") where line.count == 2 {
            let number = Int(line[1]) ?? 0
            if line[0] == "throttled_time" { return number / 1_000_000 }
            if line[0] == "throttled_usec" { return number / 1000 }
        }
        return 0
    }

    /// Returns when none of its members runs any more.
    func freeze() throws {
        switch groups.version {
        case .one: try put("FROZEN", into: path + "/freezer.state")
        case .two: try put("1", into: path + "/cgroup.freeze")
        }
        try eventually("\(path) is frozen", timeout: .seconds(5)) { isFrozen }
    }

    var isFrozen: Bool {
        switch groups.version {
        case .one: words(of: path + "/freezer.state") == [["FROZEN"]]
        case .two: words(of: path + "/cgroup.events").contains(["frozen", "1"])
        }
    }

    func thaw() {
        switch groups.version {
        case .one: try? put("THAWED", into: path + "/freezer.state")
        case .two: try? put("0", into: path + "/cgroup.freeze")
        }
    }

    /// Moves the members home and removes it.
    func remove() throws {
        try eventually("\(path) is removed", timeout: .seconds(20)) {
            for pid in members { try? put("\(pid)", into: groups.home + "/cgroup.procs") }
            for group in all.reversed() { rmdir(group) }
            return access(path, F_OK) != 0
        }
    }
}

/// The words of a file, line by line; none where it cannot be read.
private func words(of path: String, separator: Character = " ") -> [[String]] {
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    return text.split(separator: "\n").map { line in
        line.split(separator: separator, omittingEmptySubsequences: false).map { String($0) }
    }
}

/// One write(2), which is what these files want: no file beside it, and nothing added.
private func put(_ text: String, into path: String) throws {
    let file = open(path, O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { throw Failure("cannot open \(path): errno \(errno)") }
    defer { close(file) }
    let bytes = Array(text.utf8)
    guard write(file, bytes, bytes.count) == bytes.count else {
        throw Failure("\(path) takes no \(text): errno \(errno)")
    }
}
