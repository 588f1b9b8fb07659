// Faults of processes: SIGKILL and SIGSTOP anywhere in a sidecar and its tree, orderly stops, and busy cores.
//
// On a plain host docs/protocol.md ("What cannot be promised") excludes exactly keeper and guard both out of action: both
// stopped, both killed, or the one killed while the other is stopped. Every fault here has the node's processes for
// itself (its claim) until what it stopped runs again and what it killed is gone, and hits only one of the two, so
// those cases cannot come about. In a pid namespace the kernel kills all when the keeper is killed: there both are killed.

import Clock
import Foundation
import TestSupport

struct ProcessFaults: Sendable {
    let fleet: Fleet
    let workplace: Workplace
    let network: Network

    func kind(
        _ name: String, aim: FaultKind.Aim = .node, weight: Int = 2, hold: ClosedRange<Int> = 500...7000,
        needs: [Claim] = [], oneIn: Int = 3, _ act: @escaping @Sendable (Fault, SidecarProcess) throws -> Outcome
    ) -> FaultKind {
        let needs = needs + [.only("processes")]
        return FaultKind(name: name, weight: weight, aim: aim, hold: hold, needs: needs, oneIn: oneIn) {
            [fleet] fault in
            // Also one that has just been started again must have come up before it can be hit.
            var up: SidecarProcess?
            try eventually("\(fault.node?.name ?? "?") is up", timeout: .seconds(10)) {
                up = try fault.node(fleet).sidecar
                return up?.keeper != nil && up?.guardian != nil
            }
            guard let up else { throw Failure("not up") }
            return try act(fault, up)
        }
    }

    /// For those that need a child on the node that was drawn. There may be none on any node for half of the time, and then it
    /// is right that they do nothing.
    static let needsTree = 6

    var all: [FaultKind] {
        [
            kind("SIGKILL keeper") { _, sidecar in try Self.kill(sidecar, "the keeper", sidecar.keeper, ends: true) },
            kind("SIGKILL guard") { _, sidecar in try Self.kill(sidecar, "the guard", sidecar.guardian, ends: true) },
            kind("SIGKILL both in a container", aim: .container) { _, sidecar in
                let (keeper, guardian) = (sidecar.keeper, sidecar.guardian)
                if let guardian { Glibc.kill(guardian, SIGKILL) }
                return try Self.kill(sidecar, "the keeper, with its guard,", keeper, ends: true)
            },
            kind("SIGKILL command", oneIn: Self.needsTree) { _, sidecar in
                try Self.kill(sidecar, "the command", try Self.tree(sidecar) { $0.parent == sidecar.guardian })
            },
            kind("SIGKILL member", oneIn: Self.needsTree) { fault, sidecar in
                try Self.kill(
                    sidecar, "a member", try Self.tree(sidecar, pick: fault.dice) { $0.parent != sidecar.guardian })
            },
            kind("SIGTERM keeper") { _, sidecar in
                sidecar.signalKeeper(SIGTERM)
                return .took("\(try sidecar.waitForExit(timeout: .seconds(20)))")
            },
            kind("SIGSTOP keeper", hold: 500...9000) { fault, sidecar in
                try Self.stop(fault, sidecar.keeper.map { [$0] })
            },
            kind("SIGSTOP guard") { fault, sidecar in try Self.stop(fault, sidecar.guardian.map { [$0] }) },
            kind("SIGSTOP tree", oneIn: Self.needsTree) { fault, sidecar in
                _ = try Self.tree(sidecar) { _ in true }
                return try Self.stop(fault, sidecar.tree.map(\.pid))
            },
            busyCores,
        ] + ofMachine
    }

    /// Twice as many spinning processes as cores.
    private var busyCores: FaultKind {
        FaultKind(name: "busy cores", aim: .elsewhere, hold: 2000...6000, needs: [.only("cores")]) { fault in
            let count = 2 * ProcessInfo.processInfo.activeProcessorCount
            let hogs = try (0..<count).map { _ in
                try SpawnedProcess(["/bin/sh", "-c", "while :; do :; done"], environment: [:], output: "/dev/null")
            }
            defer { for hog in hogs { hog.signal(SIGKILL) } }
            fault.last()
            // Fields 14 and 15 of proc(5), which start after the name: ticks of 10 ms.
            let ticks = hogs.reduce(0) { sum, hog in
                let stat = (try? String(contentsOfFile: "/proc/\(hog.pid)/stat", encoding: .utf8)) ?? ""
                let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
                return sum + (fields.count > 12 ? (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0) : 0)
            }
            return .counted(ticks * 10, "ms of CPU in \(count) hogs")
        }
    }

    /// One process of the sidecar's living tree; waits for a tree, as there may be none just now.
    static func tree(
        _ sidecar: SidecarProcess, pick: UInt64 = 0, where wanted: (RunningProcess) -> Bool
    ) throws -> pid_t? {
        var found: [RunningProcess] = []
        try? eventually("a tree", timeout: .seconds(4)) {
            found = sidecar.tree.filter(wanted)
            return !found.isEmpty
        }
        guard !found.isEmpty else { throw Failure("no tree on this node") }
        return found[Int(pick % UInt64(found.count))].pid
    }

    private static func kill(
        _ sidecar: SidecarProcess, _ what: String, _ pid: pid_t?, ends: Bool = false
    ) throws -> Outcome {
        guard let pid, Glibc.kill(pid, SIGKILL) == 0 else { return .nothing("\(what) is not there") }
        try eventually("\(what) is dead", timeout: .seconds(10)) {
            processState(pid).map { $0 == "Z" || $0 == "X" } ?? true
        }
        if ends { return .took("\(what) is dead, \(try sidecar.waitForExit(timeout: .seconds(20)))") }
        return .took("\(what) is dead")
    }

    private static func stop(_ fault: Fault, _ pids: [pid_t]?) throws -> Outcome {
        let pids = pids ?? []
        for pid in pids { Glibc.kill(pid, SIGSTOP) }
        defer { for pid in pids { Glibc.kill(pid, SIGCONT) } }
        // One that hops from pid to pid may be gone by now; a dead one stays dead.
        var stopped = 0
        try? eventually("they stop", timeout: .seconds(1)) {
            stopped = pids.count { processState($0) == "T" }
            return stopped == pids.count
        }
        fault.last()
        return .counted(stopped, "stopped for \(fault.hold.milliseconds) ms")
    }
}
