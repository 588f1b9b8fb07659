// A control group (cgroups(7), version 2) for the tree alone, if the kernel allows it. Writing to its cgroup.kill
// reaches every process in it at once. It only helps: whether a tree is dead is decided by ancestry alone.

import CLinux
import Glibc
import Orders

struct Cgroup {
    /// A sub-group of this process's own.
    let path: String
    private let killFile: Int32
    /// Open for writing: "0" moves the writer into the group.
    let processesFile: Int32

    /// The sub-group for one start of one guard.
    static func name(guard pid: pid_t, _ id: StartID) -> String { prefix(pid) + "\(id.rawValue)" }
    private static func prefix(_ pid: pid_t) -> String { "sidecar-\(pid)-" }

    /// Makes a sub-group of that name; nil if there is no cgroup v2, if our group is the host's root, or if it is not
    /// writable.
    init?(name: String) {
        // The host's root group has no cgroup.kill. The sidecar makes no groups there, because the machine is not
        // ours.
        guard let own = Cgroup.own(), access(own + "/cgroup.kill", F_OK) == 0 else { return nil }
        path = own + "/" + name
        // A group of that name can only be left from an earlier guard with the same pid. If it is in use, it stays,
        // and this tree gets no group.
        rmdir(path)
        guard mkdir(path, 0o755) == 0 else { return nil }
        killFile = clinux_open(path + "/cgroup.kill", O_WRONLY)
        processesFile = clinux_open(path + "/cgroup.procs", O_WRONLY)
        if killFile < 0 || processesFile < 0 {
            remove()
            return nil
        }
    }

    /// Sends SIGKILL to every process in the group and in the groups below it.
    func killAll() { _ = write(killFile, "1", 1) }

    /// Closes and removes the group, which must be empty. If its processes made groups inside it, it stays.
    func remove() {
        if killFile >= 0 { close(killFile) }
        if processesFile >= 0 { close(processesFile) }
        rmdir(path)
    }

    /// Removes what a guard that was killed left in the group of this process. The guard's tree must be dead.
    static func removeAll(of pid: pid_t) {
        guard let own = Cgroup.own(), let directory = opendir(own) else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(prefix(pid)) { rmdir(own + "/" + name) }
        }
    }

    /// The directory of this process's own cgroup.
    private static func own() -> String? {
        guard let groups = contents(of: "/proc/self/cgroup"), let mounts = contents(of: "/proc/self/mountinfo") else {
            return nil
        }
        return directory(cgroups: groups, mounts: mounts)
    }

    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`.
    static func directory(cgroups: String, mounts: String) -> String? {
        guard let line = cgroups.split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) else { return nil }
        return directory(of: line.dropFirst("0::".count), mounts: mounts) { type, _ in type == "cgroup2" }
    }

    /// The directory of one controller of version 1; nil also if the group is the hierarchy's root, which has no
    /// limits.
    static func directory(of controller: String, cgroups: String, mounts: String) -> String? {
        guard let path = path(of: controller, cgroups: cgroups), path != "/" else { return nil }
        return directory(of: path, mounts: mounts) { type, options in
            type == "cgroup" && options.split(separator: ",").contains(Substring(controller))
        }
    }

    /// The group's path in that controller's hierarchy of version 1.
    static func path(of controller: String, cgroups: String) -> Substring? {
        for line in cgroups.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            if fields.count == 3, fields[1].split(separator: ",").contains(Substring(controller)) { return fields[2] }
        }
        return nil
    }

    private static func directory(
        of group: Substring, mounts: String, isWanted: (_ type: Substring, _ options: Substring) -> Bool
    ) -> String? {
        for mount in mounts.split(separator: "\n") {
            let fields = mount.split(separator: " ")
            guard let separator = fields.firstIndex(of: "-"), separator + 1 < fields.count, separator >= 6,
                isWanted(fields[separator + 1], separator + 3 < fields.count ? fields[separator + 3] : "")
            else { continue }
            let (root, point) = (fields[3], fields[4])
            // Paths with octal escapes are skipped: they are rare, and the group only helps.
            guard !point.contains("\\"), let below = path(group, below: root) else { continue }
            return below.isEmpty ? String(point) : point + "/" + below
        }
        return nil
    }

    /// The part of `path` below `root`; both begin with a slash. Nil if `path` is not below it, or climbs out by
    /// "..".
    private static func path(_ path: Substring, below root: Substring) -> String? {
        let parts = path.split(separator: "/")
        let base = root.split(separator: "/")
        guard parts.starts(with: base), !parts.contains("..") else { return nil }
        return parts.dropFirst(base.count).joined(separator: "/")
    }

}

/// The text of one of the kernel's small files; nil if it cannot be read.
func contents(of path: String) -> String? {
    let file = clinux_open(path, O_RDONLY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var text: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(file, &part, part.count)
        if count == 0 { return String(validating: text, as: UTF8.self) }
        guard count > 0, text.count < 1 << 20 else { return nil }
        text += part[..<count]
    }
}
