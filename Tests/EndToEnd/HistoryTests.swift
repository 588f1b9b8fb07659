// What `sidecar lease` and `lease history` say, held against what the children recorded of themselves: an outage, a crash, a
// hand-over and a restart of everything are shown as what they were.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct History {
        /// What may lie between a child's life and the claim or release around it, on a busy machine.
        private static let slack: Int64 = 1500

        @Test func anOutageIsAGapAndNobodyLeadsInIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let proxy = try scenario.proxy()
                try scenario.start("a", child: [], through: proxy)
                let old = try scenario.leader(members: 1)
                proxy.set(.blackHole)
                try scenario.gone(old.tree.id)
                let dead = BootClock.now()
                try eventually("the record's lease runs out") { try scenario.lease([]).exit == .code(1) }
                let during = try scenario.history()
                #expect(during.first?.leadsNow == false && during.first?.endedAt == nil, "\(during)")
                #expect(try scenario.lease(["history"]).output.contains("nobody leads: not renewed for"))
                try eventually("it lasts") { BootClock.now().since(dead) > Scenario.ttl * 1.5 }
                proxy.set(.pass)
                let new = try scenario.leader(after: old.tree.id, members: 1)
                try scenario.steady(new.tree.id)
                let after = try scenario.historyWithEnds(of: 1)
                #expect(after.count == 2 && after[0].leadsNow, "\(after)")
                try scenario.expectGap(after[0], between: old.tree, new.tree, slack: Self.slack)
                let last = try #require(scenario.recording.lastAlive(of: old.tree.id))
                let lived = last.since(old.tree.start).milliseconds
                let lasted = try #require(after[1].lasted)
                #expect(lasted >= lived && lasted < lived + Self.slack, "\(lasted) ms, the child lived \(lived) ms")
            }
        }

        @Test func aCrashIsTheEndOfItsRenewals() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: [])
                try scenario.justRenewed(pair.leader)
                pair.leader.signalKeeper(SIGKILL)
                try scenario.gone(pair.tree.id)
                // Its session is gone and its lease is not: that is no disagreement.
                #expect(try !scenario.lease([]).output.contains("DISAGREES"))
                let new = try scenario.leader(after: pair.tree.id, members: 1)
                let history = try scenario.historyWithEnds(of: 1)
                #expect(history.count == 2 && history[0].leadsNow && history[0].node == new.sidecar.node)
                #expect(history[0].previousNode == pair.leader.node && history[1].reason?.hasPrefix("expired") == true)
                let log = new.sidecar.log
                #expect(log.contains(": \(pair.leader.node) had not renewed for "), "\(log)")
                #expect(log.contains("its database session had ended"), "\(log)")
                // Nobody could tell of the death: the last renewal was shortly before.
                try scenario.expectGap(history[0], between: pair.tree, new.tree, slack: Scenario.ttl.milliseconds / 2)
            }
        }

        @Test func aHandOverAndARestartOfEverything() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: [])
                pair.leader.signalKeeper(SIGTERM)
                _ = try pair.leader.waitForExit()
                let new = try scenario.leader(after: pair.tree.id, members: 1)
                let handedOver = try scenario.historyWithEnds(of: 1)
                #expect(new.sidecar.log.contains(": \(pair.leader.node) released it"), "\(new.sidecar.log)")
                #expect(handedOver.count == 2 && handedOver[1].reason == "released: stopped", "\(handedOver)")
                try scenario.expectGap(handedOver[0], between: pair.tree, new.tree, slack: Self.slack)

                pair.standby.signalKeeper(SIGTERM)
                _ = try pair.standby.waitForExit()
                #expect(try scenario.lease([]).exit == .code(1))
                #expect(try scenario.history().allSatisfy { !$0.leadsNow && $0.endedAt != nil })
                try scenario.start("c", child: [])
                let third = try scenario.leader(after: new.tree.id, members: 1)
                let all = try scenario.history()
                #expect(all.count == 3 && all[0].leadsNow && all[0].previousNode == new.sidecar.node, "\(all)")
                try scenario.expectGap(all[0], between: new.tree, third.tree, slack: Self.slack)
                #expect(try scenario.history(["--limit", "1"]).count == 1)
                #expect(try scenario.history(["--since", "1h"]).count == 3)
                #expect(try scenario.history(["--since", "1ms"]).count == 1, "the one that lasts")
            }
        }

        @Test func aLeaderWithoutItsCommandHasAnExitCodeOfItsOwn() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let sidecar = try scenario.start("a", options: ["--max-restarts", "100"], command: ["false"])
                try eventually("it is led without a command") { try scenario.lease([]).exit == .code(2) }
                let shown = try scenario.lease(["-o", "json"])
                #expect(shown.output.contains(#""state": "led-without-command""#), "\(shown)")
                sidecar.signalKeeper(SIGTERM)
                _ = try sidecar.waitForExit()
                #expect(try scenario.lease([]).exit == .code(1))
            }
        }

        @Test func aLeaseThatIsNotThereIsNotALeaseWithoutLeader() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                try scenario.start("a", child: [])
                _ = try scenario.leader(members: 1)
                for words in [["lease"], ["lease", "history"]] {
                    let answer = try scenario.command(words, lease: "typo")
                    #expect(answer.exit == .code(3) && answer.output.contains(scenario.lease), "\(answer)")
                }
            }
        }
    }
}

/// One line of `sidecar lease history -o json`.
private struct Entry: Decodable {
    let node: String, endedAt: String?, lasted: Int64?, gap: Int64?, previousNode: String?, leadsNow: Bool,
        reason: String?

    enum CodingKeys: String, CodingKey {
        case node, reason
        case endedAt = "ended_at"
        case lasted = "lasted_ms"
        case gap = "gap_ms"
        case previousNode = "previous_node"
        case leadsNow = "leads_now"
    }
}

private struct Entries: Decodable { let history: [Entry] }

extension Scenario {
    fileprivate func history(_ options: [String] = []) throws -> [Entry] {
        let answer = try lease(["history", "-o", "json"] + options)
        #expect(answer.exit == .code(0), "\(answer)")
        return try JSONDecoder().decode(Entries.self, from: Data(answer.output.utf8)).history
    }

    /// An end is told when the session has nothing better to do.
    fileprivate func historyWithEnds(of count: Int) throws -> [Entry] {
        var entries: [Entry] = []
        try eventually("\(count) ends are told, and the new leadership") {
            entries = try history()
            return entries.count { $0.endedAt != nil } >= count && entries.first?.leadsNow == true
        }
        return entries
    }

    /// The gap that is shown is the one between the two children, up to the claim.
    fileprivate func expectGap(
        _ entry: Entry, between old: RecordedTree, _ new: RecordedTree, slack: Int64,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let last = try #require(recording.lastAlive(of: old.id))
        let without = new.start.since(last).milliseconds
        let gap = try #require(entry.gap)
        #expect(abs(gap - without) < slack, "\(gap) ms, without a child \(without) ms", sourceLocation: sourceLocation)
    }
}
