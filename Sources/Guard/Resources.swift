// What the control group of this process may use and what it holds: its CPU limit, how often that was hit, how many
// tasks and how much memory are in it. Read from cgroups(7) of version 2 and of version 1. If there is no such group,
// or if it is the machine's root, nothing is known. It only helps: whether a tree is dead is decided elsewhere.

import CLinux
import Glibc
import Orders

/// The files of this process's own control group.
public struct Resources {
    /// A CPU limit: `quota` microseconds of processor time in every `period`.
    public struct Limit: Equatable, Sendable {
        public let quota: Int64
        public let period: Int64

        /// Thousandths of a processor.
        public var processors: Int32 { Int32(clamping: quota * 1000 / period) }

        /// From `cpu.max` (version 2), or from `cpu.cfs_quota_us` and `cpu.cfs_period_us`. Nil: no limit.
        public init?(quota: Int64?, period: Int64?) {
            guard let quota, let period, quota > 0, period > 0, quota < 1 << 50 else { return nil }
            self.quota = quota
            self.period = period
        }
    }

    /// How often the group had to wait for its limit, since the group exists.
    public struct Throttling: Equatable, Sendable {
        public let periods: Int64
        public let throttled: Int64

        public init(periods: Int64, throttled: Int64) {
            self.periods = periods
            self.throttled = throttled
        }
    }

    private let isVersion2: Bool
    /// The own group, then those above it that can be seen: the tightest limit counts.
    private let cpu: [String]
    private let pids: String?
    private let memory: String?

    /// Finds the groups of this process.
    public init() {
        self.init(
            cgroups: contents(of: "/proc/self/cgroup") ?? "", mounts: contents(of: "/proc/self/mountinfo") ?? "")
    }

    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`.
    init(cgroups: String, mounts: String) {
        let unified = Cgroup.directory(cgroups: cgroups, mounts: mounts)
        // Beside version 1 there may be a version 2 without controllers.
        let isVersion2 = unified.map { access($0 + "/pids.current", F_OK) == 0 } ?? false
        self.isVersion2 = isVersion2
        // A container's groups have the same path in every hierarchy of version 1. A group with another path also
        // holds processes from outside the container.
        let place = Cgroup.path(of: "cpu", cgroups: cgroups)
        func group(_ controller: String) -> String? {
            if isVersion2 { return unified }
            guard Cgroup.path(of: controller, cgroups: cgroups) == place else { return nil }
            return Cgroup.directory(of: controller, cgroups: cgroups, mounts: mounts)
        }
        pids = group("pids")
        memory = group("memory")
        var folders: [String] = []
        var folder = group("cpu")
        while let here = folder, access(here + "/cpu.stat", F_OK) == 0, folders.count < 32 {
            folders.append(here)
            folder = here.lastIndex(of: "/").map { String(here[..<$0]) }
        }
        cpu = folders
    }

    /// The tightest CPU limit that applies, or nil.
    public var limit: Limit? {
        cpu.compactMap { folder -> Limit? in
            guard isVersion2 else {
                return Limit(
                    quota: contents(of: folder + "/cpu.cfs_quota_us").flatMap { number($0[...]) },
                    period: contents(of: folder + "/cpu.cfs_period_us").flatMap { number($0[...]) })
            }
            let fields = contents(of: folder + "/cpu.max")?.split(separator: " ") ?? []
            guard fields.count == 2 else { return nil }
            return Limit(quota: number(fields[0]), period: number(fields[1]))
        }.min { $0.processors < $1.processors }
    }

    /// How often the own group had to wait, or nil.
    public var throttling: Throttling? {
        guard let text = cpu.first.flatMap({ contents(of: $0 + "/cpu.stat") }),
            let periods = field("nr_periods", in: text),
            let throttled = field("nr_throttled", in: text)
        else { return nil }
        return Throttling(periods: periods, throttled: throttled)
    }

    /// The present state, from a few small files. Reading them never blocks.
    func strain(lateness: Duration) -> Strain {
        var strain = Strain(lateness: lateness)
        let tasks = pids.flatMap { contents(of: $0 + "/pids.current") }.flatMap { number($0[...]) }
        strain.tasks = Int32(clamping: tasks ?? 0)
        // Only private memory counts. Memory shared with others is not freed when one process dies.
        let statistics = memory.flatMap { contents(of: $0 + "/memory.stat") }
        strain.memory = statistics.flatMap { field(isVersion2 ? "anon" : "total_rss", in: $0) } ?? 0
        let all = Int32(clamping: sysconf(Int32(_SC_NPROCESSORS_ONLN)) * 1000)
        strain.processors = min(all, limit?.processors ?? all)
        return strain
    }
}

private func number(_ text: Substring) -> Int64? {
    Int64(text.prefix { $0 != "\n" })
}

private func field(_ name: String, in text: String) -> Int64? {
    for line in text.split(separator: "\n") where line.hasPrefix(name + " ") {
        return Int64(line.dropFirst(name.count + 1))
    }
    return nil
}
