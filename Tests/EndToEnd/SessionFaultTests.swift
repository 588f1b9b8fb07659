// Hands in the database: backends terminated, the advisory lock taken by a stranger, the row deleted or changed. The
// leader goes on where the record still says it may, and its child is dead in time where it does not.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct SessionFaults {
        @Test func aLeaderResumesAfterItsBackendWasTerminated() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let session = try scenario.session()
                let before = try #require(try scenario.lockHolder(session))
                let deadline = try scenario.justRenewed(pair.leader)
                try session.rows("SELECT pg_terminate_backend(\(before))")
                try eventually("a new session of the leader's holds the lock") {
                    let now = try scenario.lockHolder(session)
                    return now != nil && now != before
                }
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
                let holder = try #require(try scenario.lockHolder(session))
                #expect(try scenario.row(session, "backend_pid") == "\(holder)")
            }
        }

        /// libpq reads it at every attempt, as long as PGSERVICE is set.
        @Test func aLeaderResumesWithoutTheServiceFileThatItStartedWith() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let file = scenario.directory + "/services"
                let service = """
                    [metastore]
                    host=127.0.0.1
                    port=\(scenario.postgres.port)
                    user=airflow
                    dbname=\(scenario.database)

                    """
                try Data(service.utf8).write(to: URL(fileURLWithPath: file))
                let sidecar = try SpawnedProcess(
                    [SidecarProcess.binary, "run", "--lease", scenario.lease, "--node", "a", "--ttl", "3s"]
                        + ["--ready-file", scenario.directory + "/ready", "--", "sh", "-c"]
                        + ["echo \"service=$PGSERVICE\"; exec sleep 1000"],
                    environment: SidecarProcess.cleanEnvironment.merging([
                        "PGSERVICE": "metastore", "PGSERVICEFILE": file,
                    ]) { $1 }, output: scenario.directory + "/log")
                defer {
                    sidecar.signal(SIGTERM)
                    _ = try? sidecar.waitForExit()
                }
                let session = try scenario.session()
                try eventually("its command runs") { sidecar.output.contains("the command runs, pid") }
                try eventually("the command has the environment as it was") {
                    sidecar.output.contains("service=metastore")
                }
                let holder = try #require(try scenario.lockHolder(session))
                try FileManager.default.removeItem(atPath: file)
                try session.rows("SELECT pg_terminate_backend(\(holder))")
                try eventually("it resumes, or does not") {
                    sidecar.output.contains("resumed the lease") || sidecar.output.contains("lost the lease")
                }
                #expect(sidecar.output.contains("resumed the lease through a new session"), "\(sidecar.output)")
            }
        }

        @Test func onSessionLossKillEndsTheChildAtOnce() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(options: ["--on-session-loss", "kill"])
                let session = try scenario.session()
                let deadline = try scenario.justRenewed(pair.leader)
                try session.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE \(Scenario.ourLock)")
                // The same sidecar may lead again in the same epoch a tenth of a second later; `gone` looks at environments,
                // which do not tell the two trees apart.
                _ = try scenario.leader(after: pair.tree.id)
                // Not only when the deadline came.
                let last = try #require(scenario.recording.lastAlive(of: pair.tree.id))
                #expect(last < deadline, "\(scenario.report)")
                try scenario.takeover(from: pair.tree)
            }
        }

        @Test func aDeletedRowEndsTheLeadershipAndALeaseIsMadeAnew() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let session = try scenario.session()
                let deadline = try scenario.justRenewed(pair.leader)
                try session.rows("DELETE FROM sidecar.lease")
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                let new = try scenario.takeover(from: pair.tree)
                #expect(try scenario.row(session, "epoch") == new.tree.id.epoch)
                let epochs = (Int64(pair.tree.id.epoch) ?? 0, Int64(new.tree.id.epoch) ?? 0)
                #expect(epochs.0 < epochs.1, "epochs only grow: \(epochs)")
            }
        }

        @Test func anEpochChangedByHandEndsTheLeadership() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let session = try scenario.session()
                let deadline = try scenario.justRenewed(pair.leader)
                try session.rows("UPDATE sidecar.lease SET epoch = epoch + 1")
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                let new = try scenario.takeover(from: pair.tree)
                let epochs = (Int64(pair.tree.id.epoch) ?? 0, Int64(new.tree.id.epoch) ?? 0)
                // Its holder may go on in the epoch that was set by hand (R9), with a new child; anybody else claims above it.
                #expect(epochs.0 < epochs.1, "epochs only grow: \(epochs)")
                #expect(epochs.0 + 1 < epochs.1 || new.sidecar === pair.leader, "\(scenario.report)")
            }
        }

        @Test func aRowHeldByNobodyAnyMoreRunsOut() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let session = try scenario.session()
                let deadline = try scenario.justRenewed(pair.leader)
                try session.rows("UPDATE sidecar.lease SET holder = gen_random_uuid(), node = 'ghost'")
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                try scenario.takeover(from: pair.tree)
            }
        }
    }
}

extension Scenario {
    /// One column of the lease's row.
    func row(_ session: DirectSession, _ column: String) throws -> String? {
        try session.value("SELECT \(column) FROM sidecar.lease WHERE name = '\(lease)'")
    }

    /// The pid of the backend that holds the lease's advisory lock.
    func lockHolder(_ session: DirectSession) throws -> Int? {
        try session.value("SELECT pid FROM pg_locks WHERE \(Self.ourLock)").flatMap { Int($0) }
    }

    /// The key of that lock, as pg_locks tells it.
    func lockKey(_ session: DirectSession) throws -> String? {
        try session.value(
            "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE \(Self.ourLock)")
    }

    static let ourLock = """
        locktype = 'advisory' AND granted AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
}
