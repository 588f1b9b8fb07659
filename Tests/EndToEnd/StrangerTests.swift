// Strangers and visitors: somebody else's session on the advisory lock, a sidecar with another TTL that came and went, an
// epoch that hands wrote. None of them may keep the lease from being led for longer than the protocol says, and none may
// bring about two children.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct Strangers {
        @Test func aLockStolenFromALeaderCostsNothing() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let thief = try DirectSession(scenario.url())
                try scenario.stealLock(thief, from: pair.leader)
                let deadline = try #require(pair.leader.readiness?.deadline)
                try eventually("the deadline of then is long past") { BootClock.now() > deadline + Scenario.ttl * 2 }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        /// Its record still names it, and the lock is a stranger's.
        @Test func aSingleSidecarEndsAnIdleStranger() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let only = try scenario.start("only")
                let (_, tree) = try scenario.leader()
                let thief = try DirectSession(scenario.url())
                let key = try #require(try scenario.lockKey(thief))
                only.signalKeeper(SIGSTOP)
                try scenario.gone(tree.id)
                try eventually("the lock is stolen") {
                    try thief.rows(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE \(Scenario.ourLock) AND pid <> pg_backend_pid()"
                    )
                    return try thief.value("SELECT pg_try_advisory_lock(\(key))") == "t"
                }
                only.signalKeeper(SIGCONT)
                try scenario.takeover(from: tree, timeout: .seconds(60))
                #expect(throws: DirectSession.Failure.self, "the thief's session is gone") {
                    try thief.value("SELECT 1")
                }
            }
        }

        /// A superuser's session, which an ordinary role cannot end, and which works all the time.
        @Test func anActiveStrangerOutOfReachIsClaimedPast() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let thief = try scenario.session()
                let key = try #require(try scenario.lockKey(thief))
                pair.leader.signalKeeper(SIGKILL)
                try scenario.gone(pair.tree.id)
                try eventually("the lock is stolen") {
                    try thief.value("SELECT pg_try_advisory_lock(\(key))") == "t"
                }
                try thief.send("SELECT pg_sleep(600)")
                try scenario.takeover(from: pair.tree, timeout: .seconds(60))
                let session = try scenario.session()
                #expect(try scenario.lockHolder(session) == thief.backend, "the stranger has its lock")
                #expect(pair.standby.log.contains("without its advisory lock"))
                try session.rows("SELECT pg_terminate_backend(\(thief.backend))")
            }
        }

        /// A record that another run of the server wrote waits for the longest TTL that was seen.
        @Test(.early) func aVisitorWithALongTTLDoesNotSlowDownLaterTakeovers() async throws {
            let postgres = try PrivatePostgres.started()
            defer { postgres.remove() }
            try await Scenario.run(on: postgres) { scenario in
                let visitor = try scenario.start("visitor", options: ["--ttl", "20s", "--margin", "4s"])
                let (_, visited) = try scenario.leader(timeout: .seconds(60))
                // Both have seen the visitor lead.
                let others = [try scenario.standby("a"), try scenario.standby("b")]
                visitor.signalKeeper(SIGTERM)
                let (leader, tree) = try scenario.leader(after: visited.id)
                #expect(others.contains { $0 === leader })
                let forgotten = BootClock.now() + .seconds(21)
                try eventually("the visitor's TTL has passed", timeout: .seconds(60)) { BootClock.now() > forgotten }
                // Frozen, so that nothing is released or renewed.
                leader.signalKeeper(SIGSTOP)
                let stopped = BootClock.now()
                try postgres.restart()
                try scenario.takeover(from: tree, timeout: .seconds(60))
                leader.signalKeeper(SIGCONT)
                let begun = try #require(scenario.recording.trees.last?.processes.first?.start)
                #expect(begun.since(stopped) < .seconds(12), "\(begun.since(stopped))\n\(scenario.report)")
            }
        }

        @Test func anAbsurdEpochKeepsNobodyOutOnceItIsRepaired() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let session = try scenario.session()
                let epoch = try #require(try scenario.row(session, "epoch"))
                try session.rows("UPDATE sidecar.lease SET epoch = 9000000000000000")
                try scenario.gone(pair.tree.id)
                try eventually("claims are refused", timeout: .seconds(60)) {
                    scenario.sidecars.contains { $0.log.contains("23514") }
                }
                try session.rows("UPDATE sidecar.lease SET epoch = \(epoch), beat = beat + 1")
                try scenario.takeover(from: pair.tree, timeout: .seconds(60))
            }
        }
    }
}

extension Scenario {
    /// Takes the advisory lock away from a leader, which takes it back as fast as it can: tries until the thief was faster.
    func stealLock(_ thief: DirectSession, from leader: SidecarProcess) throws {
        let key = try #require(try lockKey(thief))
        try eventually("the leader's readiness file is there") { leader.readiness?.deadline != nil }
        try eventually("the lock is stolen") {
            try thief.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE \(Scenario.ourLock) AND pid <> pg_backend_pid()")
            for _ in 0..<200 where try thief.value("SELECT pg_try_advisory_lock(\(key))") == "t" { return true }
            return false
        }
    }
}
