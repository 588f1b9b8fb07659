// The network between one sidecar and the server fails, in one or both directions. The half-open sessions that a black
// hole leaves in the server, and the requests that arrive late when it is lifted, must not bring two children about.

import Clock
import Glibc
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct NetworkFaults {
        @Test(arguments: [TCPProxy.Mode.blackHole, .blackHoleToServer, .blackHoleToClient])
        func aLeaderInABlackHoleIsReplaced(_ mode: TCPProxy.Mode) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let (pair, proxy) = try scenario.pairWithProxy()
                try scenario.justRenewed(pair.leader)
                proxy.set(mode)
                let deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                proxy.set(.pass)
                // On a busy machine its guard may be too busy killing to answer in time, and be killed itself (R12).
                try eventually("the lost one stands by again") {
                    pair.leader.readiness?.role == "standby" || pair.leader.exit == .code(80)
                }
                try scenario.steady(new.tree.id)
                #expect(scenario.recording.trees.count == 2, "\(scenario.report)")
            }
        }

        @Test func aBrokenConnectionIsResumed() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let (pair, proxy) = try scenario.pairWithProxy()
                let deadline = try scenario.justRenewed(pair.leader)
                proxy.set(.refuse)
                proxy.resetAll()
                try eventually("a quarter of the time is gone") { BootClock.now() > deadline - Scenario.ttl * 0.6 }
                proxy.set(.pass)
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        @Test func aHalfOpenSessionThatStillHoldsTheLockIsReplaced() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let (pair, proxy) = try scenario.pairWithProxy()
                let session = try scenario.session()
                let before = try #require(try scenario.lockHolder(session))
                try scenario.justRenewed(pair.leader)
                // The killed leader's end of the connection never reaches the server: its backend keeps the lock.
                proxy.set(.blackHole)
                pair.leader.signalKeeper(SIGKILL)
                _ = try pair.leader.waitForExit()
                #expect(try scenario.lockHolder(session) == before)
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
                #expect(try scenario.lockHolder(session) != before, "\(scenario.report)")
            }
        }

        @Test func aSlowNetworkIsNoReasonToChangeLeaders() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let (pair, proxy) = try scenario.pairWithProxy()
                let deadline = try scenario.justRenewed(pair.leader)
                proxy.set(.delay(.milliseconds(100)))
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        @Test func aNetworkSlowerThanACallsLimitCostsTheLease() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let (pair, proxy) = try scenario.pairWithProxy()
                proxy.set(.delay(.milliseconds(1500)))
                // Renewals are carried out and answered, each answer too late: no deadline may come from the answers.
                var deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id) {
                    deadline = max(deadline, pair.leader.readiness?.deadline ?? deadline)
                }
                try scenario.expectDead(pair.tree.id, before: deadline)
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
            }
        }

        @Test func aStandbyInABlackHoleDoesNotClaimOnWhatItSawBefore() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let leader = try scenario.start("a")
                let tree = try scenario.leader().tree
                let proxy = try scenario.proxy()
                let standby = try scenario.start("b", through: proxy)
                try eventually("b stands by") { standby.readiness?.role == "standby" }
                proxy.set(.blackHole)
                let start = BootClock.now()
                try eventually("more than a TTL passes") { BootClock.now() > start + Scenario.ttl * 1.3 }
                proxy.set(.pass)
                try eventually("b stands by again") { standby.readiness?.role == "standby" }
                try scenario.steady(tree.id)
                #expect(scenario.recording.trees.count == 1 && leader.exit == nil, "\(scenario.report)")
            }
        }
    }
}
