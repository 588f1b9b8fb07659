// Faults of the machine that a sidecar runs on: too little processor time for it and its busy tree, thousands of other
// processes, a debugger that holds its guard, a frozen control group around the guard or around all of it.
//
// Of these docs/protocol.md ("What cannot be promised") excludes the last alone. The judge knows when it was, and whose.

import Clock
import Foundation
import Synchronization
import TestSupport

extension ProcessFaults {
    /// Those that are possible on this machine.
    var ofMachine: [FaultKind] {
        var kinds: [FaultKind] = []
        if let quotas = ControlGroups.withQuotas {
            kinds += [
                starved("starved", in: quotas, cutOff: false), starved("starved and cut off", in: quotas, cutOff: true),
            ]
        }
        if Crowd.room >= Crowd.least { kinds.append(crowdedHost) }
        if Tracing.isPermitted { kinds.append(tracedGuard) }
        if !ControlGroups.freezable.isEmpty { kinds += [frozenGuard, frozenSidecar] }
        return kinds
    }

    /// What is left out on this machine, and why.
    static var leftOut: [(kinds: String, why: String)] {
        var left: [(kinds: String, why: String)] = []
        if ControlGroups.withQuotas == nil {
            left.append(("starved", "no control group with a processor quota may be made here"))
        }
        if Crowd.room < Crowd.least {
            left.append(("crowded host", "no room for \(Crowd.least) more processes here"))
        }
        if !Tracing.isPermitted { left.append(("traced guard", "ptrace(2) is not permitted here")) }
        if ControlGroups.freezable.isEmpty {
            left.append(("frozen guard, frozen sidecar", "no control group may be frozen here"))
        }
        return left
    }

    /// Everything of a sidecar, which may start more while we look.
    private static func move(_ sidecar: SidecarProcess, into group: ControlGroup) throws {
        var moved: Set<pid_t> = []
        for _ in 1...20 {
            let all = Set([sidecar.keeper, sidecar.guardian].compactMap { $0 } + sidecar.tree.map(\.pid))
            let fresh = all.subtracting(moved)
            if fresh.isEmpty { return }
            try group.add(fresh.sorted())
            moved.formUnion(fresh)
        }
    }

    /// The sidecar and its tree share a fraction of a processor, and the tree wants much more.
    private func starved(_ name: String, in quotas: ControlGroups, cutOff: Bool) -> FaultKind {
        // Beyond the TTL in any case, if it is to lose its lease.
        kind(name, aim: .leader, hold: cutOff ? 6000...10000 : 4000...10000, needs: cutOff ? [.only("link")] : []) {
            [fleet, workplace, network] fault, sidecar in
            guard let node = fault.node else { throw Failure("no node") }
            _ = try Self.tree(sidecar) { _ in true }
            var random = SeededGenerator(seed: fault.dice)
            let quota = [100, 200, 500].randomElement(using: &random) ?? 100
            let busy = Int.random(in: 10...64, using: &random)
            let group = try ControlGroup(workplace, in: quotas)
            defer {
                fleet.makeIdle(node)
                group.unlimit()
                try? group.remove()
            }
            // From the first busy process on, or they would starve the whole machine.
            try group.limit(to: 500)
            try Self.move(sidecar, into: group)
            try fleet.makeBusy(node, busy)
            var most = 0
            try? eventually("they are busy", timeout: .seconds(4)) {
                most = max(most, group.members.count)
                return most >= busy
            }
            try group.limit(to: quota)
            let cut = cutOff ? try network.cut(node.host, [.into, .outOf]) : nil
            defer { try? cut?.lift() }
            fault.last()
            let dropped = try cut?.packets() ?? 1
            let waited = group.throttled
            let what = "ms of waiting for \(quota)m of a processor, \(most) processes"
            return dropped > 0 ? .counted(waited, what) : .nothing("\(waited) \(what), but 0 \(network.hits)")
        }
    }

    /// Thousands of sleeping processes. Those in a pid namespace of their own do not see them.
    private var crowdedHost: FaultKind {
        FaultKind(name: "crowded host", weight: 4, aim: .elsewhere, hold: 4000...12000, needs: [.only("crowd")]) {
            [workplace] fault in
            // All stages together: the machine has room for one.
            guard let crowd = try Crowd.gather(3000 + Int(fault.dice % 7001), workplace) else {
                return .nothing("there is a crowd already, or no room for one")
            }
            defer { crowd.disperse() }
            fault.last()
            let count = crowd.count
            return count >= Crowd.least ? .took("\(count) more processes") : .nothing("only \(count) more processes")
        }
    }

    private var tracedGuard: FaultKind {
        kind("traced guard", weight: 3, hold: 2000...9000) { [workplace] fault, sidecar in
            guard let guardian = sidecar.guardian else { return .nothing("no guard") }
            let how = fault.dice % 2 == 0 ? "strace" : "gdb"
            let tracer = try SpawnedProcess(
                [Tracing.program, "\(guardian)", how], environment: [:], output: workplace.directory + "/tracer.log")
            var held = false
            try? eventually("the guard is held", timeout: .seconds(5)) {
                held = processState(guardian) == "t"
                return held || tracer.exit != nil
            }
            if held { fault.last() }
            tracer.signal(SIGKILL)
            _ = try tracer.waitForExit()
            let end = try Self.letGo(of: guardian, sidecar)
            return held ? .took("held as by \(how) for \(fault.hold.milliseconds) ms, \(end)") : .nothing("not held")
        }
    }

    private var frozenGuard: FaultKind {
        kind("frozen guard", weight: 3, hold: 2000...9000) { [workplace] fault, sidecar in
            guard let guardian = sidecar.guardian else { return .nothing("no guard") }
            let groups = ControlGroups.freezable[Int(fault.dice % UInt64(ControlGroups.freezable.count))]
            let group = try ControlGroup(workplace, in: groups)
            defer {
                group.thaw()
                try? group.remove()
            }
            try group.add([guardian])
            try group.freeze()
            fault.last()
            let frozen = group.isFrozen
            group.thaw()
            let end = try Self.letGo(of: guardian, sidecar)
            return frozen
                ? .took("frozen for \(fault.hold.milliseconds) ms (version \(groups.version)), \(end)")
                : .nothing("not frozen")
        }
    }

    private var frozenSidecar: FaultKind {
        kind("frozen sidecar", hold: 1000...9000) { [workplace] fault, sidecar in
            let groups = ControlGroups.freezable[Int(fault.dice % UInt64(ControlGroups.freezable.count))]
            let group = try ControlGroup(workplace, in: groups)
            defer {
                group.thaw()
                try? group.remove()
            }
            try Self.move(sidecar, into: group)
            let start = BootClock.now()
            try group.freeze()
            fault.last()
            let frozen = group.isFrozen
            let count = group.members.count
            group.thaw()
            let what = "\(count) processes frozen for \(fault.hold.milliseconds) ms (version \(groups.version))"
            return frozen ? .tookAll(what, during: start...BootClock.now()) : .nothing("not frozen")
        }
    }

    /// A guard that its keeper has killed while it could not die does so now, and the sidecar ends. Its processes are this
    /// fault's until then: a keeper that is stopped next would be the case of both out of action at once.
    private static func letGo(of guardian: pid_t, _ sidecar: SidecarProcess) throws -> String {
        try? eventually("a condemned guard dies", timeout: .seconds(1)) {
            processState(guardian).map { "ZX".contains($0) } ?? true
        }
        guard processState(guardian).map({ "ZX".contains($0) }) ?? true else { return "it goes on" }
        return "then dead, \(try sidecar.waitForExit(timeout: .seconds(20)))"
    }
}

/// Whether one process may trace another here.
private enum Tracing {
    static let program = builtProducts + "/tracer"
    static let isPermitted: Bool = (try? run([program])) != nil
}

/// Many other processes on this machine.
private final class Crowd: Sendable {
    /// Fewer are no crowd.
    static let least = 3000
    /// What stays free for everybody else.
    private static let reserve = 8000
    private static let isGathered = Atomic(false)
    private let process: SpawnedProcess
    let count: Int

    /// How many more processes the machine has room for, in its table of pids and in memory.
    static var room: Int {
        func number(_ path: String) -> Int? {
            (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
                Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
            }
        }
        let load = (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8)) ?? ""
        let threads = load.split(separator: " ").dropFirst(3).first?.split(separator: "/").last.flatMap { Int($0) } ?? 0
        let most = min(number("/proc/sys/kernel/pid_max") ?? 0, number("/proc/sys/kernel/threads-max") ?? 0)
        let memory = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
        let available =
            memory.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
            .flatMap { Int($0.filter(\.isNumber)) } ?? 0
        // Each takes the kernel some 60 kB.
        return min(most - threads - reserve, available / 4 / 60)
    }

    /// Nil when there is one already, or no room. At most `wanted`.
    static func gather(_ wanted: Int, _ workplace: Workplace) throws -> Crowd? {
        guard !isGathered.exchange(true, ordering: .sequentiallyConsistent) else { return nil }
        let wanted = min(wanted, room)
        do {
            if wanted >= least { return try Crowd(wanted, workplace) }
        } catch {
            isGathered.store(false, ordering: .sequentiallyConsistent)
            throw error
        }
        isGathered.store(false, ordering: .sequentiallyConsistent)
        return nil
    }

    private init(_ wanted: Int, _ workplace: Workplace) throws {
        let output = workplace.directory + "/crowd"
        unlink(output)
        // The folder in its environment makes it known to the janitor.
        process = try SpawnedProcess(
            [builtProducts + "/crowd", "\(wanted)"], environment: ["CHAOS": workplace.directory + "/"], output: output)
        try eventually("a crowd of \(wanted)", timeout: .seconds(60)) { [process] in process.output.contains("ready") }
        let pids = Set(process.output.split(separator: "\n").compactMap { pid_t($0) })
        count = pids.count
        ProcessTable.overlook(pids)
    }

    /// Returns when they are gone.
    func disperse() {
        ProcessTable.overlook([])
        process.signal(SIGTERM)
        _ = try? process.waitForExit()
        Self.isGathered.store(false, ordering: .sequentiallyConsistent)
    }
}
