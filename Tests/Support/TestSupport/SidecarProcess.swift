// One sidecar under test: the built binary, run from outside as a container runtime would run it. Knows its keeper, its
// guard and its tree by what the kernel says, not by what the sidecar says.

import Clock
import Foundation

/// A running `sidecar run`.
public final class SidecarProcess: Sendable {
    /// What the readiness file says.
    public struct Readiness: Sendable, Equatable {
        public let role: String
        public let epoch: Int64?
        public let node: String
        /// Until when the file may be believed; for a leader the moment its child must be dead.
        public let deadline: Instant
    }

    /// The name it was given with --node. Unique within a lease.
    public let node: String
    public let lease: String
    public let readyFile: String
    /// The keeper; or, as PID 1 of a namespace, the unshare(1) that is its parent.
    public let process: SpawnedProcess
    private let inOwnNamespace: Bool

    /// The binary under test: SIDECAR_BINARY, else the one built with these tests.
    public static let binary = ProcessInfo.processInfo.environment["SIDECAR_BINARY"] ?? builtProducts + "/sidecar"
    /// The recording child.
    public static let recorder = builtProducts + "/recorder"

    /// Nothing of the tests' own environment, so that no PG* or SIDECAR_* of a developer's gets in.
    public static let cleanEnvironment = [
        "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C",
    ]

    /// Why a process cannot be PID 1 of a namespace of its own here; nil where it can.
    public static let noNamespaces: String? = {
        do {
            try run(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "true"])
            return nil
        } catch {
            return "unshare(1) is not permitted to make a pid namespace: \(error)"
        }
    }()

    /// Starts `sidecar run`. The log and the readiness file go into `directory`.
    /// - Parameters:
    ///   - databaseURL: the value of --database-url; nil where `environment` says it.
    ///   - options: those besides --lease, --node, --ready-file and --database-url.
    ///   - environment: added to the clean one.
    ///   - asInit: as PID 1 of a pid namespace of its own, as in a container.
    ///   - launcher: put in front of it all; must end by executing what follows, as the same process.
    public init(
        node: String, lease: String, databaseURL: String?, options: [String], command: [String], directory: String,
        environment: [String: String] = [:], asInit: Bool = false, launcher: [String] = []
    ) throws {
        self.node = node
        self.lease = lease
        inOwnNamespace = asInit
        readyFile = "\(directory)/\(node).ready"
        let namespace = asInit ? ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] : []
        let run =
            [Self.binary, "run", "--lease", lease, "--node", node, "--ready-file", readyFile]
            + (databaseURL.map { ["--database-url", $0] } ?? [])
        process = try SpawnedProcess(
            launcher + namespace + run + options + ["--"] + command,
            environment: Self.cleanEnvironment.merging(environment) { $1 }, output: "\(directory)/\(node).log")
    }

    /// The keeper's pid as this namespace sees it; nil once it is gone.
    public var keeper: pid_t? {
        guard exit == nil else { return nil }
        guard inOwnNamespace else { return process.pid }
        // unshare(1) is its parent. Right after the start that child is still unshare itself.
        return ProcessTable.children(of: process.pid).first { $0.name != "unshare" && $0.state != "Z" }?.pid
    }

    /// The guard's pid; nil before it is there and once it is gone.
    public var guardian: pid_t? {
        guard let keeper else { return nil }
        return ProcessTable.children(of: keeper).first { $0.name == "sidecar-guard" && $0.state != "Z" }?.pid
    }

    /// Every living process of its trees, whoever their parent is by now.
    public var tree: [RunningProcess] {
        ProcessTable.processes(with: ["SIDECAR_LEASE": lease, "SIDECAR_NODE": node])
    }

    /// How it ended; nil while it runs.
    public var exit: SpawnedProcess.Exit? { process.exit }

    /// Waits for its end.
    public func waitForExit(timeout: Duration = .seconds(30)) throws -> SpawnedProcess.Exit {
        try process.waitForExit(timeout: timeout)
    }

    /// Signals the keeper.
    public func signalKeeper(_ number: Int32) { if let keeper { kill(keeper, number) } }
    /// Signals the keeper's process group, as a terminal or `kill -9 -PGID` does.
    public func signalKeeperGroup(_ number: Int32) { if exit == nil { killpg(process.pid, number) } }
    /// Signals the guard.
    public func signalGuard(_ number: Int32) { if let guardian { kill(guardian, number) } }

    /// The parsed readiness file; nil when there is none.
    public var readiness: Readiness? {
        guard let data = FileManager.default.contents(atPath: readyFile),
            let file = try? JSONDecoder().decode(ReadyFile.self, from: data)
        else { return nil }
        return Readiness(
            role: file.role, epoch: file.epoch, node: file.node, deadline: Instant(nanoseconds: file.deadline))
    }

    private struct ReadyFile: Decodable {
        let role: String
        let epoch: Int64?
        let node: String
        let deadline: Int64
    }

    /// Everything it wrote, its child's output included.
    public var log: String { process.output }

    /// Kills it and whatever of its tree is left, whatever state they are in. For the end of a test.
    public func destroy() {
        let guardian = guardian
        signalKeeper(SIGKILL)
        if let guardian { kill(guardian, SIGKILL) }
        process.signal(SIGKILL)
        try? eventually("sidecar \(node) and its tree are gone", timeout: .seconds(10)) {
            // Whole groups: a process that hops from pid to pid is in one, and gone before its own pid can be used.
            for process in tree where process.group > 1 && process.group != getpgrp() { killpg(process.group, SIGKILL) }
            return exit != nil && tree.isEmpty
        }
    }

    /// What the last probe said.
    public var probeOutput: String { (try? String(contentsOfFile: readyFile + ".probe", encoding: .utf8)) ?? "" }

    /// `sidecar probe WHAT` on its readiness file: the exit code.
    public func probe(_ what: String) throws -> SpawnedProcess.Exit {
        let process = try SpawnedProcess(
            [Self.binary, "probe", what, "--ready-file", readyFile], environment: Self.cleanEnvironment,
            output: readyFile + ".probe")
        return try process.waitForExit()
    }
}
