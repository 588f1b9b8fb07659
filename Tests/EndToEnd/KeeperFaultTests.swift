// What happens to the keeper happens to the lease: asked to go, killed, or stopped for longer than a TTL, its tree is dead
// before the other node's starts, and the other node's does start.

import Clock
import Glibc
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct KeeperFaults {
        @Test(arguments: [SIGTERM, SIGINT])
        func anOrderlyStopDrainsTheChildAndHandsOver(_ number: Int32) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                pair.leader.signalKeeper(number)
                #expect(try pair.leader.waitForExit() == .code(0), "\(scenario.report)")
                // Confirmed empty before the end, not some time after it.
                #expect(!scenario.isAlive(pair.tree.id), "\(scenario.report)")
                let stopped = scenario.recording.trees.first { $0.id == pair.tree.id }?.main?.stop
                #expect(stopped != nil, "the child's main process was not asked to stop\n\(scenario.report)")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                scenario.expectHandOver(to: new.tree)
            }
        }

        @Test func aDrainKeepsTheLeaseUntilASecondSignalEndsIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let child = Scenario.allShapes + ["--ignore-term"]
                let pair = try scenario.pair(options: ["--grace", "60s"], child: child)
                pair.leader.signalKeeper(SIGTERM)
                var asked: Instant?
                try eventually("the child is asked to stop") {
                    let tree = scenario.recording.trees.first { $0.id == pair.tree.id }
                    asked = tree?.main?.signals.contains(Int(SIGTERM)) == true ? tree?.last : nil
                    return asked != nil
                }
                try eventually("the child drains for longer than a TTL") {
                    guard let asked, let last = scenario.recording.lastAlive(of: pair.tree.id) else { return false }
                    return last.since(asked) > Scenario.ttl * 1.2 || !scenario.isAlive(pair.tree.id)
                }
                #expect(scenario.isAlive(pair.tree.id) && scenario.recording.trees.count == 1, "\(scenario.report)")
                pair.leader.signalKeeper(SIGTERM)
                let end = try pair.leader.waitForExit()
                #expect(end == .code(82), "stopped, but the child had to be killed: \(end)\n\(scenario.report)")
                #expect(!scenario.isAlive(pair.tree.id), "\(scenario.report)")
                scenario.expectHandOver(to: try scenario.takeover(from: pair.tree).tree)
            }
        }

        @Test func aChildThatDoesNotDrainIsKilledAfterTheGracePeriod() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(options: ["--grace", "500ms"], child: ["--ignore-term"])
                pair.leader.signalKeeper(SIGTERM)
                let end = try pair.leader.waitForExit()
                #expect(end == .code(82), "stopped, but the child had to be killed: \(end)\n\(scenario.report)")
                let new = try scenario.leader(after: pair.tree.id, members: 1)
                scenario.expectHandOver(to: new.tree)
            }
        }

        @Test func aKilledKeeperTakesItsTreeWithIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeper(SIGKILL)
                #expect(try pair.leader.waitForExit() == .signal(9))
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                #expect(try scenario.takeover(from: pair.tree).sidecar === pair.standby)
            }
        }

        @Test(.alone, arguments: [SIGTERM, SIGKILL])
        func aTreeThatForksWhileItIsKilledIsGoneBeforeTheNextStarts(_ number: Int32) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: ["--members", "daemon,storm"])
                pair.leader.signalKeeper(number)
                try scenario.gone(pair.tree.id)
                let new = try scenario.leader(after: pair.tree.id, members: 3)
                #expect(new.sidecar === pair.standby)
                try scenario.steady(new.tree.id)
            }
        }

        @Test func killingTheKeepersProcessGroupTakesTheTreeWithIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeperGroup(SIGKILL)
                #expect(try pair.leader.waitForExit() == .signal(9))
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                #expect(try scenario.takeover(from: pair.tree).sidecar === pair.standby)
            }
        }

        @Test func aStoppedKeepersTreeDiesByTheGuardsDeadline() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeper(SIGSTOP)
                #expect(try pair.leader.probe("leader") == .code(0), "the file is believed until its deadline")
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                #expect(try pair.leader.probe("ready") != .code(0), "a stopped sidecar is not ready")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                pair.leader.signalKeeper(SIGCONT)
                try eventually("the thawed one stands by, or ends") {
                    pair.leader.exit != nil || pair.leader.readiness?.role == "standby"
                }
                try scenario.steady(new.tree.id)
                #expect(scenario.recording.trees.count == 2, "\(scenario.report)")
            }
        }

        @Test func aShortlyStoppedKeeperGoesOn() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeper(SIGSTOP)
                try eventually("a third of the time is gone") { BootClock.now() > deadline - Scenario.ttl * 0.5 }
                pair.leader.signalKeeper(SIGCONT)
                try scenario.justRenewed(pair.leader)
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        @Test func otherSignalsGoOnToTheChild() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                for number in [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH] { pair.leader.signalKeeper(number) }
                try eventually("the child caught them all") {
                    let main = scenario.recording.trees.first { $0.id == pair.tree.id }?.main
                    return Set(main?.signals ?? []) == Set([SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH].map(Int.init))
                }
                for number in [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH] { pair.standby.signalKeeper(number) }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1 && pair.standby.exit == nil, "\(scenario.report)")
            }
        }

        @Test func theLeaseGoesFromNodeToNodeUntilTheLast() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                for node in ["a", "b", "c"] { try scenario.start(node) }
                let first = try scenario.leader()
                first.sidecar.signalKeeper(SIGTERM)
                let second = try scenario.takeover(from: first.tree)
                #expect(second.sidecar !== first.sidecar)
                second.sidecar.signalGuard(SIGKILL)
                let third = try scenario.takeover(from: second.tree)
                #expect(![first.sidecar.node, second.sidecar.node].contains(third.sidecar.node))
                #expect(first.sidecar.exit == .code(0) && second.sidecar.exit == .code(80), "\(scenario.report)")
                third.sidecar.signalKeeper(SIGINT)
                #expect(try third.sidecar.waitForExit() == .code(0))
                #expect(scenario.recording.trees.count == 3, "\(scenario.report)")
            }
        }

        @Test func whatHappensToAStandbyDoesNotTouchTheLeader() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let third = try scenario.standby("c")
                let fourth = try scenario.standby("d")
                pair.standby.signalKeeper(SIGSTOP)
                third.signalKeeper(SIGTERM)
                #expect(try third.waitForExit() == .code(0))
                fourth.signalKeeper(SIGKILL)
                _ = try fourth.waitForExit()
                let start = BootClock.now()
                try eventually("a TTL passes") { BootClock.now() > start + Scenario.ttl * 1.1 }
                // What it saw before it was stopped must not count as an observation of silence.
                pair.standby.signalKeeper(SIGCONT)
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }
    }
}

extension Scenario {
    /// The lease was released, not left to run out: the next tree came sooner than a TTL after the last one's end.
    func expectHandOver(to tree: RecordedTree, sourceLocation: SourceLocation = #_sourceLocation) {
        let before = recording.trees.filter { $0.id != tree.id }.map(\.last).max()
        let gap = before.map { tree.start.since($0) }
        #expect(
            gap.map { $0 < Self.ttl * 0.8 } == true, "no hand-over: a gap of \(gap ?? .zero)\n\(report)",
            sourceLocation: sourceLocation)
    }
}
