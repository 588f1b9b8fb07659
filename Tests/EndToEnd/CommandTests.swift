// The commands that look at a running lease from outside: probes from the readiness file, `lease` from the database.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct Commands {
        @Test func probesTellLeaderFromStandbyFromTheHungAndTheGone() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: [])
                try eventually("both are ready") {
                    try pair.leader.probe("ready") == .code(0) && pair.standby.probe("ready") == .code(0)
                }
                #expect(try pair.leader.probe("leader") == .code(0))
                #expect(try pair.standby.probe("leader") == .code(1))
                #expect(try pair.leader.probe("live") == .code(0) && pair.standby.probe("live") == .code(0))
                let mode = try FileManager.default.attributesOfItem(atPath: pair.leader.readyFile)[.posixPermissions]
                #expect(mode as? Int == 0o644)

                pair.standby.signalKeeper(SIGSTOP)
                try eventually("the file of a stopped sidecar goes stale") {
                    try pair.standby.probe("ready") == .code(1) && pair.standby.probe("live") == .code(1)
                }
                pair.standby.signalKeeper(SIGKILL)
                _ = try pair.standby.waitForExit()
                #expect(try pair.standby.probe("ready") == .code(1))

                pair.leader.signalKeeper(SIGTERM)
                #expect(try pair.leader.waitForExit() == .code(0))
                for question in ["ready", "leader", "live"] {
                    #expect(try pair.leader.probe(question) == .code(1), "\(question) after the end")
                }
                #expect(!FileManager.default.fileExists(atPath: pair.leader.readyFile), "removed at the end")
            }
        }

        @Test func readyWhenLeaderKeepsStandbysOutOfService() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(options: ["--ready-when", "leader"], child: [])
                try eventually("the leader is ready") { try pair.leader.probe("ready") == .code(0) }
                try eventually("the standby lives") { try pair.standby.probe("live") == .code(0) }
                #expect(try pair.standby.probe("ready") == .code(1))
            }
        }

        @Test func leaseSaysWhoLeadsAndAgreesWithTheDatabase() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let empty = try scenario.lease(["-o", "json"])
                #expect(empty.exit != .code(0), "nobody leads on an empty database")
                #expect(empty.output.contains("sidecar run") || empty.output.contains("migrate"), "\(empty.output)")

                let pair = try scenario.pair(child: [])
                var json: [String: Any] = [:]
                try eventually("the standby is listed") {
                    let answer = try scenario.lease(["-o", "json"])
                    guard answer.exit == .code(0), answer.output.contains("\"\(pair.standby.node)\"") else {
                        return false
                    }
                    json = try #require(
                        try JSONSerialization.jsonObject(with: Data(answer.output.utf8)) as? [String: Any])
                    return true
                }
                let text = "\(json)"
                #expect(text.contains(pair.tree.id.epoch) && text.contains(pair.tree.id.instance), "\(text)")
                let holder = try #require(try scenario.lockHolder(try scenario.session()))
                #expect(text.contains("\(holder)"), "\(text)")
                let table = try scenario.lease([])
                #expect(table.exit == .code(0) && table.output.contains(pair.leader.node), "\(table.output)")

                pair.standby.signalKeeper(SIGTERM)
                _ = try pair.standby.waitForExit()
                pair.leader.signalKeeper(SIGTERM)
                _ = try pair.leader.waitForExit()
                let after = try scenario.lease(["-o", "json"])
                #expect(![.code(0)].contains(after.exit), "nobody leads: \(after)")
                let history = try scenario.lease(["history"])
                #expect(history.exit == .code(0) && history.output.contains(pair.tree.id.epoch), "\(history.output)")
            }
        }

        @Test(arguments: [
            ["--ttl", "3s", "--margin", "2s"], ["--ttl", "3s", "--renew-interval", "2s"], ["--ttl", "soon"],
            ["--no-such"],
        ])
        func settingsThatContradictEachOtherAreRefusedAtTheStart(_ options: [String]) async throws {
            try await onOwnThread {
                let directory = try makeTemporaryDirectory("sidecar-e2e")
                defer { try? FileManager.default.removeItem(atPath: directory) }
                let sidecar = try SidecarProcess(
                    node: "a", lease: "x", databaseURL: "postgresql://127.0.0.1:1/x", options: options,
                    command: ["true"], directory: directory)
                let end = try sidecar.waitForExit()
                #expect(end == .code(78) || end == .code(64), "\(end): \(sidecar.log)")
                for option in options where option.hasPrefix("--") {
                    #expect(sidecar.log.contains(option), "\(sidecar.log)")
                }
                #expect(sidecar.log.split(separator: "\n").count == 1, "one line: \(sidecar.log)")
            }
        }
    }
}

extension Scenario {
    /// `sidecar lease` on this scenario's lease.
    func lease(_ arguments: [String]) throws -> (exit: SpawnedProcess.Exit, output: String) {
        try command(["lease"] + arguments)
    }

    /// One of the short commands on this scenario's lease.
    func command(_ arguments: [String], lease other: String? = nil) throws -> (
        exit: SpawnedProcess.Exit, output: String
    ) {
        let output = directory + "/command-\(UUID().uuidString)"
        let process = try SpawnedProcess(
            [SidecarProcess.binary] + arguments + ["--lease", other ?? lease, "--database-url", url()],
            environment: SidecarProcess.cleanEnvironment, output: output)
        return (try process.waitForExit(), process.output)
    }
}
