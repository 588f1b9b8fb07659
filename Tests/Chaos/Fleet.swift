// The sidecars of a stage and what a container platform does for them: one that ended is started again. Some are PID 1 of
// a pid namespace, as in a container; the others stand on a plain host.

import Clock
import Foundation
import Synchronization
import TestSupport

/// A place where a sidecar runs.
struct Node: Sendable {
    let name: String
    let host: Host
    let url: String
    /// As PID 1 of a pid namespace of its own: the kernel kills all of it when it ends.
    let container: Bool
    /// The members of its child's tree.
    let shapes: String
}

/// Every sidecar of a stage, kept running.
final class Fleet: Sendable {
    /// Long enough for two noisy cores, short enough for many fail-overs.
    static let ttl = Duration.seconds(3)

    let nodes: [Node]
    let lease: String
    let recordings: String
    /// Knows when the whole machine was late.
    let witness = StallWitness()
    /// Knows who was killed and not let go by the kernel.
    let slowDeaths: SlowDeaths
    private let directory: String
    private let options: [String]
    private let state: Mutex<State>

    /// How a sidecar ended.
    struct End: Sendable {
        let node: String
        let exit: SpawnedProcess.Exit
        let seen: Instant
    }

    private struct State {
        var processes: [String: SidecarProcess] = [:]
        var starts = 0
        var ends: [End] = []
        var closed = false
        var idle = false
    }

    init(_ nodes: [Node], directory: String, options: [String] = []) throws {
        self.nodes = nodes
        self.directory = directory
        self.options = options
        lease = "chaos-\(getpid())"
        slowDeaths = SlowDeaths(lease: lease)
        recordings = directory + "/recordings"
        state = Mutex(State())
        try FileManager.default.createDirectory(atPath: recordings, withIntermediateDirectories: true)
        startThread("restarts") { [self] in
            while !state.withLock({ $0.closed }) {
                for node in nodes { restart(node) }
                usleep(20_000)
            }
            state.withLock { $0.idle = true }
        }
    }

    /// Starts a node's sidecar if there is none.
    private func restart(_ node: Node) {
        let old = self[node]
        if let old {
            guard let end = old.exit else { return }
            state.withLock { $0.ends.append(End(node: node.name, exit: end, seen: BootClock.now())) }
        }
        let fresh = try? SidecarProcess(
            node: node.name, lease: lease, databaseURL: node.url,
            options: [
                "--ttl", "\(Self.ttl.milliseconds)ms", "--grace", "1s", "--restart-window", "1m", "--cooldown", "3s",
            ] + options,
            command: [SidecarProcess.recorder, recordings, "--members", node.shapes, "--busy-while", busyFile(node)],
            directory: directory, asInit: node.container, launcher: node.host.enter)
        state.withLock {
            $0.processes[node.name] = fresh
            $0.starts += 1
        }
    }

    /// The node's sidecar of the moment.
    subscript(_ node: Node) -> SidecarProcess? { state.withLock { $0.processes[node.name] } }

    private func busyFile(_ node: Node) -> String { "\(directory)/\(node.name).busy" }

    /// From now on a node's tree has so many more processes that take all the processor time they can get; one that is started
    /// there later as well.
    func makeBusy(_ node: Node, _ count: Int) throws {
        try "\(count)\n".write(toFile: busyFile(node), atomically: true, encoding: .utf8)
    }
    /// Ends that.
    func makeIdle(_ node: Node) { unlink(busyFile(node)) }

    /// Those that ended, in order.
    var ends: [End] { state.withLock { $0.ends } }

    /// How many sidecars were started, and how those that ended did.
    var census: String {
        let starts = state.withLock { $0.starts }
        let sums = ends.reduce(into: [String: Int]()) { $0["\($1.exit)", default: 0] += 1 }
        let how = sums.sorted { $0.value > $1.value }.map { "\($0.value) x \($0.key)" }.joined(separator: ", ")
        return "\(starts) started, ended: \(how.isEmpty ? "none" : how)"
    }

    /// The node that leads with a child alive, by its own word.
    var leader: Node? {
        nodes.first { node in
            guard let ready = self[node]?.readiness else { return false }
            return ready.role == "leader" && ready.deadline > BootClock.now()
        }
    }

    /// The living trees by (epoch, instance), by the kernel's word.
    func livingTrees() -> [Set<String>: [RunningProcess]] {
        var trees: [Set<String>: [RunningProcess]] = [:]
        for process in ProcessTable.processes(with: ["SIDECAR_LEASE": lease]) {
            let words = ProcessTable.environment(of: process.pid).filter {
                $0.hasPrefix("SIDECAR_EPOCH=") || $0.hasPrefix("SIDECAR_INSTANCE=")
            }
            // An execve away from its environment, or dead in between.
            if words.count == 2 { trees[words, default: []].append(process) }
        }
        return trees
    }

    /// The end of a node's log.
    func log(_ node: Node, last: Int = 4000) -> String { String((self[node]?.log ?? "").suffix(last)) }

    /// How each epoch was claimed: `released`, `expired` or `unclaimed`.
    var claims: [String: String] {
        var claims: [String: String] = [:]
        for node in nodes {
            for line in (self[node]?.log ?? "").split(separator: "\n") {
                guard let at = line.range(of: ", epoch "), line.contains(" claimed the ") else { continue }
                let epoch = String(line[at.upperBound...].prefix { $0.isNumber })
                claims[epoch] = line.contains("claimed the released") ? "released" : "expired"
            }
        }
        return claims
    }

    /// Ends all sidecars and their trees.
    func close() {
        state.withLock { $0.closed = true }
        try? eventually("no more restarts") { state.withLock { $0.idle } }
        for node in nodes { self[node]?.destroy() }
        witness.end()
        slowDeaths.end()
    }
}
