// A leader that shares a CPU limit with a tree of busy processes, as in a container: keeper, guard and the dying tree get
// the processor late. However late that is, no other node may start before the tree is dead.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct Starvation {
        /// 32 processes of 20 MB each, none of which ever waits.
        static let busyTree = [
            "perl", "-e", "for (1..31) { last unless fork } my $held = 'x' x 20_000_000; 1 while 1",
        ]

        @Test(
            .early,
            .enabled(if: CPULimit.isPossible, "needs a control group with a CPU limit that may be made: root"))
        func aStarvedLeadersTreeIsDeadBeforeTheNextStarts() async throws {
            for _ in 1...3 {
                try await Scenario.run(on: try Servers.shared()) { scenario in
                    let limit = try #require(CPULimit(thousandths: 100))
                    defer { limit.remove() }
                    let proxy = try scenario.proxy()
                    let leader = try scenario.start(
                        "a", command: Self.busyTree, through: proxy, launcher: limit.launcher)
                    try eventually("a leads") { leader.readiness?.role == "leader" }
                    let standby = try scenario.start("b", child: ["--members", "plain"])
                    // Half way up the tree starves its guard already; it may lose the lease by itself.
                    let grown = BootClock.now() + .seconds(8)
                    try eventually("the tree has grown, or b leads", timeout: .seconds(60)) {
                        BootClock.now() > grown || standby.readiness?.role == "leader"
                    }
                    proxy.set(.blackHole)
                    try eventually("b runs its command", timeout: .seconds(60)) {
                        !scenario.recording.trees(of: "b").isEmpty
                    }
                    let living = limit.processes.filter { $0.state != "Z" && !$0.name.hasPrefix("sidecar") }
                    #expect(
                        living.isEmpty,
                        "\(living.count) processes of a are alive beside b: \(living.prefix(3))\n\(scenario.report)")
                }
            }
        }

        /// Also where the sidecar is not root, and its own files in /proc, as it is not dumpable, are.
        @Test(arguments: [false, true]) func aChildComesBehindItsGuard(asNobody: Bool) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let own = getpriority(__priority_which_t(0), 0)
                let become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
                if asNobody {
                    for folder in [scenario.directory, scenario.recordings] { #expect(chmod(folder, 0o777) == 0) }
                }
                let leader = try scenario.start(
                    "a", options: ["--child-nice", "7", "--child-oom-score-adj", "300"],
                    launcher: asNobody && getuid() == 0 ? become : [])
                let tree = try scenario.leader().tree
                let main = try #require(tree.main?.pid)
                let guardian = try #require(leader.guardian)
                #expect(getpriority(__priority_which_t(0), id_t(main)) == min(own + 7, 19))
                #expect(getpriority(__priority_which_t(0), id_t(guardian)) <= own)
                let before = try Self.oomScore(guardian)
                #expect(try Self.oomScore(pid_t(main)) == min(before + 300, 1000))
            }
        }

        private static func oomScore(_ pid: pid_t) throws -> Int {
            let text = try String(contentsOfFile: "/proc/\(pid)/oom_score_adj", encoding: .utf8)
            return try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        }
    }
}

/// A control group with a CPU limit, of version 1 or 2.
private struct CPULimit {
    private static let root = "/sys/fs/cgroup"
    private let folders: [String]

    static let isPossible: Bool = {
        guard let limit = CPULimit(thousandths: 100) else { return false }
        limit.remove()
        return true
    }()

    /// Nil where no such group can be made.
    init?(thousandths: Int) {
        let name = "sidecar-test-\(UUID().uuidString)"
        let isVersion1 = FileManager.default.fileExists(atPath: Self.root + "/cpu/cgroup.procs")
        folders = (isVersion1 ? ["/cpu/", "/pids/", "/memory/"] : ["/"]).map { Self.root + $0 + name }
        if !isVersion1 { try? Self.write("+cpu +pids +memory", Self.root + "/cgroup.subtree_control") }
        for folder in folders { mkdir(folder, 0o755) }
        do {
            if isVersion1 {
                try Self.write("\(thousandths * 100)", folders[0] + "/cpu.cfs_quota_us")
            } else {
                try Self.write("\(thousandths * 100) 100000", folders[0] + "/cpu.max")
            }
        } catch {
            remove()
            return nil
        }
    }

    /// Puts a process into it and takes away what a container does not have, either: the right to raise its priority.
    var launcher: [String] {
        let enter = folders.map { "echo $$ >\($0)/cgroup.procs" }.joined(separator: " && ")
        return ["sh", "-c", enter + " && exec setpriv --bounding-set=-sys_nice \"$@\"", "sh"]
    }

    var processes: [RunningProcess] {
        let text = (try? String(contentsOfFile: folders[0] + "/cgroup.procs", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { pid_t($0) }.compactMap { RunningProcess($0) }
    }

    func remove() {
        for process in processes { kill(process.pid, SIGKILL) }
        try? eventually("the control group is empty") {
            for folder in folders { rmdir(folder) }
            return folders.allSatisfy { !FileManager.default.fileExists(atPath: $0) }
        }
    }

    private static func write(_ text: String, _ path: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }
}
