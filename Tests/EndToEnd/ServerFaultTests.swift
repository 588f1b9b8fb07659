// The server itself fails: stopped, crashed, frozen, restarted. Without it nobody may go on past a deadline, and when it
// is back exactly one child runs again.

import Clock
import Glibc
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct ServerFaults {
        @Test(arguments: [PrivatePostgres.StopMode.fast, .immediate])
        func aStoppedServerEndsTheChildInTime(_ mode: PrivatePostgres.StopMode) async throws {
            let server = try await onOwnThread { try PrivatePostgres.started() }
            try await Scenario.run(on: server) { scenario in
                let pair = try scenario.pair()
                try scenario.justRenewed(pair.leader)
                try server.stop(mode)
                let deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                #expect(scenario.recording.trees.count == 1, "nobody may start without a database\n\(scenario.report)")
                try server.start()
                try scenario.takeover(from: pair.tree)
            }
        }

        @Test(arguments: [PrivatePostgres.StopMode.fast, .immediate])
        func aQuickRestartIsSurvived(_ mode: PrivatePostgres.StopMode) async throws {
            let server = try await onOwnThread { try PrivatePostgres.started() }
            try await Scenario.run(on: server) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                try server.restart(mode)
                let back = BootClock.now()
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                if deadline.since(back) > .seconds(1) {
                    // There was time to resume: the child must not have noticed.
                    try scenario.steady(pair.tree.id)
                    #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
                } else {
                    let alive = scenario.isAlive(pair.tree.id)
                    try scenario.steady(alive ? pair.tree.id : try scenario.takeover(from: pair.tree).tree.id)
                }
            }
        }

        @Test func aFrozenServerEndsTheChildInTime() async throws {
            let server = try await onOwnThread { try PrivatePostgres.started() }
            try await Scenario.run(on: server) { scenario in
                let pair = try scenario.pair()
                try scenario.justRenewed(pair.leader)
                server.signal(SIGSTOP)
                let deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id)
                try scenario.expectDead(pair.tree.id, before: deadline)
                try eventually("a TTL passes") { BootClock.now() > deadline + Scenario.ttl }
                #expect(scenario.recording.trees.count == 1, "nobody may start without a database\n\(scenario.report)")
                // What was under way when it froze (renewals of the dead) is carried out now, late.
                server.signal(SIGCONT)
                try scenario.takeover(from: pair.tree)
            }
        }

        @Test func aBriefFreezeIsSurvived() async throws {
            let server = try await onOwnThread { try PrivatePostgres.started() }
            try await Scenario.run(on: server) { scenario in
                let pair = try scenario.pair()
                let deadline = try scenario.justRenewed(pair.leader)
                server.signal(SIGSTOP)
                try eventually("a call's limit passes") { BootClock.now() > deadline - Scenario.ttl * 0.5 }
                server.signal(SIGCONT)
                try eventually("the first deadline passed") { BootClock.now() > deadline + Scenario.margin }
                try scenario.steady(pair.tree.id)
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        @Test func aServerThatIsAwayAtTheStartIsWaitedForAndSaidOnce() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let proxy = try scenario.proxy()
                proxy.set(.refuse)
                let sidecar = try scenario.start("a", child: [], through: proxy)
                try eventually("it says so") { sidecar.log.contains("\(proxy.port)") }
                let start = BootClock.now()
                try eventually("time passes") { BootClock.now() > start + .seconds(3) }
                let lines = sidecar.log.split(separator: "\n")
                #expect(lines.count <= 3, "it should be said once, not every second\n\(scenario.report)")
                proxy.set(.pass)
                _ = try scenario.leader(members: 1)
            }
        }
    }
}
