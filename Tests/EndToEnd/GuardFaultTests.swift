// What happens to the guard: it cannot be talked out of its duty, and when it is killed or stopped, the keeper, heir of
// its tree, kills that. Both stopped at once is beyond any process: there the database takes the child's sessions away.

import Clock
import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct GuardFaults {
        @Test func signalsThatAskDoNotEndTheGuard() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let guardian = try #require(pair.leader.guardian)
                for number in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM] {
                    kill(guardian, number)
                }
                try scenario.steady(pair.tree.id)
                #expect(pair.leader.guardian == guardian, "\(scenario.report)")
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
                #expect(scenario.recording.trees.first?.main?.signals == [], "\(scenario.report)")
            }
        }

        @Test func aKilledGuardsTreeIsKilledByTheKeeper() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                pair.leader.signalGuard(SIGKILL)
                let end = try pair.leader.waitForExit()
                #expect(end == .code(80), "\(end)\n\(scenario.report)")
                #expect(!scenario.isAlive(pair.tree.id), "\(scenario.report)")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                scenario.expectHandOver(to: new.tree)
            }
        }

        @Test(.enabled(if: Cgroups.areWritable, "needs a cgroup v2 that may be written"))
        func aKilledGuardsControlGroupIsRemovedByTheKeeper() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let group = try #require(Cgroups.make())
                defer {
                    for name in Cgroups.below(group) { rmdir(group + "/" + name) }
                    rmdir(group)
                }
                let sidecar = try scenario.start("a")
                try eventually("the guard is there") { sidecar.guardian != nil }
                // Long before the first claim, so that the child's group is made inside it.
                for pid in [try #require(sidecar.keeper), try #require(sidecar.guardian)] {
                    try "\(pid)".write(toFile: group + "/cgroup.procs", atomically: false, encoding: .utf8)
                }
                let tree = try scenario.leader().tree
                #expect(Cgroups.below(group).count == 1, "the tree has no group of its own: \(scenario.report)")
                sidecar.signalGuard(SIGKILL)
                #expect(try sidecar.waitForExit() == .code(80), "\(scenario.report)")
                #expect(!scenario.isAlive(tree.id))
                #expect(Cgroups.below(group) == [], "left behind")
            }
        }

        @Test func aStoppedGuardsTreeIsKilledByTheKeeperInTime() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let guardian = try #require(pair.leader.guardian)
                try scenario.justRenewed(pair.leader)
                kill(guardian, SIGSTOP)
                // The keeper does not renew for a guard that does not answer: one more renewal may have been under way.
                var deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id) {
                    deadline = max(deadline, pair.leader.readiness?.deadline ?? deadline)
                }
                try scenario.expectDead(pair.tree.id, before: deadline)
                let new = try scenario.takeover(from: pair.tree)
                kill(guardian, SIGCONT)
                #expect(new.sidecar === pair.standby)
                try scenario.steady(new.tree.id)
                #expect(scenario.recording.trees.count == 2, "\(scenario.report)")
            }
        }

        @Test func aShortlyStoppedGuardGoesOn() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let guardian = try #require(pair.leader.guardian)
                let deadline = try scenario.justRenewed(pair.leader)
                kill(guardian, SIGSTOP)
                // Less than the margin: a guard that is later than that has its lease given up in time (R2).
                let stopped = BootClock.now()
                try eventually("a third of the margin is gone") { BootClock.now() > stopped + Scenario.margin / 3 }
                kill(guardian, SIGCONT)
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1 && pair.leader.guardian == guardian, "\(scenario.report)")
            }
        }

        @Test func anOrderToStopReachesAGuardThatDidNotReadForAWhile() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // Time enough until the deadline for all that follows; a grace period that no test waits for.
                let options = ["--ttl", "6s", "--grace", "10m"]
                let child = ["sh", "-c", "trap '' 40; exec \"$@\"", "sh", SidecarProcess.recorder, scenario.recordings]
                let leader = try scenario.start("a", options: options, command: child)
                let tree = try scenario.leader(members: 1).tree
                let (keeper, guardian) = (try #require(leader.keeper), try #require(leader.guardian))
                try scenario.justRenewed(leader)
                kill(guardian, SIGSTOP)
                // Far more of them than the channel holds. Real-time signals are queued, and each is passed on.
                for _ in 0..<2000 { kill(keeper, 40) }
                try eventually("the keeper has taken them all") {
                    try String(contentsOfFile: "/proc/\(keeper)/status", encoding: .utf8)
                        .contains("ShdPnd:\t0000000000000000")
                }
                leader.signalKeeper(SIGTERM)
                try eventually("it has ordered the command to end") { leader.log.contains("stopping: sending SIGTERM") }
                kill(guardian, SIGCONT)
                #expect(try leader.waitForExit() == .code(0), "\(scenario.report)")
                #expect(!scenario.isAlive(tree.id), "\(scenario.report)")
            }
        }

        @Test func keeperAndGuardStoppedTogetherLoseTheDatabaseToTheFence() async throws {
            // The child lives on, so its overlap is the one that no process can prevent.
            let exempt: @Sendable (Recording) -> Set<RecordedTree.ID> = { Set($0.trees.prefix(1).map(\.id)) }
            try await Scenario.run(on: try Servers.shared(), exempt: exempt) { scenario in
                let holdSession = "psql -X -q -d \"$0\" -c 'SELECT pg_sleep(600)' & exec \"$@\""
                let command =
                    ["sh", "-c", holdSession, scenario.url(), SidecarProcess.recorder, scenario.recordings]
                    + Scenario.allShapes
                let leader = try scenario.start("a", command: command)
                let old = try scenario.leader().tree
                let session = try scenario.session()
                let sessionsOfOld = """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'sidecar:\(old.id.epoch):%'
                    """
                try eventually("the child's session carries its label") { try session.value(sessionsOfOld) == "1" }
                let standby = try scenario.start("b", command: command)

                let guardian = try #require(leader.guardian)
                leader.signalKeeper(SIGSTOP)
                kill(guardian, SIGSTOP)
                let new = try scenario.leader(after: old.id)
                #expect(new.sidecar === standby)
                try eventually("the fence took the old child's session") { try session.value(sessionsOfOld) == "0" }
                #expect(scenario.isAlive(old.id), "both were stopped: who killed it?\n\(scenario.report)")

                kill(guardian, SIGCONT)
                leader.signalKeeper(SIGCONT)
                try scenario.gone(old.id)
                try scenario.steady(new.tree.id)
                #expect(scenario.recording.trees.count == 2, "\(scenario.report)")
                let ofNew = sessionsOfOld.replacingOccurrences(of: old.id.epoch, with: new.tree.id.epoch)
                // A session that the fence took would not come back.
                try eventually("the new child's session, which the fence must spare, is there") {
                    try session.value(ofNew) == "1"
                }
            }
        }
    }

    /// As in a container: the keeper is PID 1 of its pid namespace.
    @Suite(
        .enabled(
            if: SidecarProcess.noNamespaces == nil, "\(SidecarProcess.noNamespaces ?? "namespaces are permitted here")")
    )
    struct AsInit {
        @Test func anOrderlyStopHandsOver() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(asInit: true)
                pair.leader.signalKeeper(SIGTERM)
                #expect(try pair.leader.waitForExit() == .code(0), "\(scenario.report)")
                #expect(!scenario.isAlive(pair.tree.id), "\(scenario.report)")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                scenario.expectHandOver(to: new.tree)
            }
        }

        @Test func aKilledKeeperTakesItsTreeWithIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(asInit: true)
                let deadline = try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeper(SIGKILL)
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                #expect(try scenario.takeover(from: pair.tree).sidecar === pair.standby)
            }
        }

        @Test func keeperAndGuardKilledTogetherTakeTheTreeWithThem() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(asInit: true)
                let guardian = try #require(pair.leader.guardian)
                pair.leader.signalKeeper(SIGKILL)
                kill(guardian, SIGKILL)
                try scenario.gone(pair.tree.id)
                #expect(try scenario.takeover(from: pair.tree).sidecar === pair.standby)
            }
        }

        @Test func aKilledGuardsTreeIsKilledByTheKeeper() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(asInit: true)
                pair.leader.signalGuard(SIGKILL)
                let end = try pair.leader.waitForExit()
                #expect(end == .code(80), "\(end)\n\(scenario.report)")
                #expect(!scenario.isAlive(pair.tree.id), "\(scenario.report)")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                scenario.expectHandOver(to: new.tree)
            }
        }
    }
}

/// Control groups (v2) of the tests' own.
private enum Cgroups {
    private static let mount = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8))?
        .split(separator: "\n").first { $0.contains(" - cgroup2 ") }.map { String($0.split(separator: " ")[4]) }

    static let areWritable: Bool = {
        guard let group = make() else { return false }
        return rmdir(group) == 0
    }()

    static func make() -> String? {
        guard let mount else { return nil }
        let group = "\(mount)/sidecar-e2e-\(UUID().uuidString)"
        return mkdir(group, 0o755) == 0 ? group : nil
    }

    static func below(_ group: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: group)) ?? []
        return names.filter { $0.hasPrefix("sidecar-") }
    }
}
