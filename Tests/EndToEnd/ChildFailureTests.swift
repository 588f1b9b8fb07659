// The child fails by itself: restarted here with back-off, then another node gets its turn, and a command that cannot be
// executed at all is said once instead of making nodes claim in turns for ever.

import Clock
import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct ChildFailures {
        @Test func aFailingChildIsRestartedHereThenAnotherNodeGetsItsTurn() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let options = ["--max-restarts", "1", "--cooldown", "60s"]
                let failing = ["--members", "stubborn,daemon", "--exit-after", "300", "--exit-code", "3"]
                let first = try scenario.start("a", options: options, child: failing)
                try eventually("it runs twice") { scenario.recording.trees.count == 2 }
                try scenario.start("b", options: options)
                let new = try scenario.leader(after: scenario.recording.trees.last?.id)
                #expect(new.sidecar.node == "b", "\(scenario.report)")
                try scenario.steady(new.tree.id)

                let failed = scenario.recording.trees(of: "a")
                #expect(failed.count == 2 && Set(failed.map(\.id.epoch)).count == 1, "\(scenario.report)")
                if failed.count == 2 {
                    let pause = failed[1].start.since(failed[0].last)
                    #expect(pause >= .milliseconds(500), "no back-off: restarted after \(pause)\n\(scenario.report)")
                }
                // It stays out for its cool-down, alive.
                #expect(first.exit == nil, "\(scenario.report)")
                scenario.expectHandOver(to: new.tree)
            }
        }

        @Test func aloneItTriesAgainAfterTheCoolDown() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let options = ["--max-restarts", "0", "--cooldown", "1s"]
                let failing = ["--exit-after", "100", "--exit-code", "3"]
                try scenario.start("a", options: options, child: failing)
                try eventually("it runs in two epochs") {
                    Set(scenario.recording.trees.map(\.id.epoch)).count == 2
                }
            }
        }

        @Test func aKilledChildIsRestartedInTheSameEpoch() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let main = pair.tree.processes[0].pid
                kill(pid_t(main), SIGKILL)
                let new = try scenario.leader(after: pair.tree.id)
                #expect(new.sidecar === pair.leader && new.tree.id.epoch == pair.tree.id.epoch, "\(scenario.report)")
                try scenario.steady(new.tree.id)
            }
        }

        /// A name that is nowhere, a file that may not be executed, one whose interpreter is missing.
        @Test(arguments: [("missing", 127), ("not-executable", 126), ("no-interpreter", 127)])
        func aCommandThatCannotBeExecutedIsSaidOnce(_ kind: String, _ code: Int) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let command = "\(scenario.directory)/\(kind)"
                if kind != "missing" {
                    try "#!/nonexistent/interpreter\n".write(toFile: command, atomically: false, encoding: .utf8)
                    chmod(command, kind == "no-interpreter" ? 0o755 : 0o644)
                }
                let broken = try scenario.start("a", command: [command])
                let end = try broken.waitForExit()
                #expect(end == .code(code), "\(scenario.report)")
                let said = broken.log.split(separator: "\n").filter {
                    $0.contains("cannot execute ") || $0.contains("cannot be executed: ")
                }
                #expect(said.count == 1, "\(scenario.report)")
                try scenario.start("b", child: [])
                let new = try scenario.leader(members: 1)
                #expect(new.sidecar.node == "b")
            }
        }

        @Test func onceEndsWithTheChildsOwnCode() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let child = ["--members", "stubborn,daemon", "--exit-after", "200", "--exit-code", "7"]
                let sidecar = try scenario.start("a", options: ["--once"], child: child)
                #expect(try sidecar.waitForExit() == .code(7), "\(scenario.report)")
                #expect(sidecar.tree.isEmpty && scenario.recording.trees.count == 1, "\(scenario.report)")
                // Released, so that the next one need not wait; and a signal shows as shells show it.
                let next = try scenario.start("b", options: ["--once"], command: ["sh", "-c", "kill -9 $$"])
                #expect(try next.waitForExit() == .code(128 + 9), "\(scenario.report)")
            }
        }

        @Test func theChildSeesWhoItIs() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let sidecar = try scenario.start("a", child: [])
                let id = try scenario.leader(members: 1).tree.id
                // It writes them down one by one.
                try eventually("all that it was told is recorded") {
                    scenario.recording.trees.last?.main?.environment["PGAPPNAME"] != nil
                }
                let tree = try #require(scenario.recording.trees.last { $0.id == id })
                let environment = tree.main?.environment ?? [:]
                #expect(environment["SIDECAR_LEASE"] == scenario.lease && environment["SIDECAR_NODE"] == "a")
                let label = environment["PGAPPNAME"] ?? ""
                #expect(label.hasPrefix("sidecar:\(tree.id.epoch):\(tree.id.instance.prefix(8))"), "\(label)")
                #expect(UUID(uuidString: tree.id.instance) != nil)
                try eventually("the readiness file tells its epoch") {
                    sidecar.readiness?.epoch == Int64(tree.id.epoch)
                }
            }
        }
    }
}
