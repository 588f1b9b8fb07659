// The password changes under running sidecars: with a file, a command or a password file the leader resumes within its TTL and a
// standby takes over later; with a variable nobody can get in any more, and the sidecar ends with a code of its own, so that a
// restart brings the new one. Against a server that demands SCRAM. No secret gets into any log, error or command line.

import Clock
import Foundation
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct Credentials {
        /// How the sidecars are told the password.
        enum Way: String, CaseIterable, Sendable {
            /// --database-url-file, replaced by rename(2).
            case file
            /// The same, but the link is swapped, as Kubernetes does with a Secret's mount.
            case linkedFile
            /// SIDECAR_DATABASE_URL_FILE, overwritten in place.
            case fileInPlace
            case command
            case passwordFile
        }

        /// What a sidecar may have been told, now or later.
        private static let secrets = ["old-secret", "new-secret"]

        private static func server() async throws -> PrivatePostgres {
            try await onOwnThread {
                let server = try PrivatePostgres(hba: ["local all all trust", "host all all samehost scram-sha-256"])
                try server.start()
                return server
            }
        }

        @Test(arguments: Way.allCases)
        func theLeaderResumesWithTheNewPasswordAndAStandbyTakesOverWithIt(_ way: Way) async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(way, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                let leader = try scenario.start("a", options: login.options, child: [], environment: login.environment)
                let tree = try scenario.leader(members: 1).tree
                let standby = try scenario.start("b", options: login.options, child: [], environment: login.environment)
                try eventually("b stands by") { standby.readiness?.role == "standby" }

                try login.give(Self.secrets[1])
                try scenario.setPassword(Self.secrets[1])
                try scenario.dropSessions()
                try eventually("the leader resumes") { leader.log.contains("resumed the lease") }
                try eventually("the standby is back") { standby.log.contains(" again ") }
                try scenario.steady(tree.id)
                #expect(scenario.recording.trees.count == 1, "its child was to live on\n\(scenario.report)")

                leader.signalKeeper(SIGKILL)
                let new = try scenario.leader(after: tree.id, members: 1)
                #expect(new.sidecar === standby)
                try scenario.steady(new.tree.id)
                try scenario.expectNoSecrets(Self.secrets)
            }
        }

        @Test func aRotatedVariableEndsItWithACodeOfItsOwnAndARestartHelps() async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                func variables(_ secret: String) -> [String: String] {
                    ["SIDECAR_DATABASE_URL": scenario.url(password: secret)]
                }
                try scenario.setPassword(Self.secrets[0])
                let options = ["--auth-failure-limit", "1ms"]
                let leader = try scenario.start("a", options: options, environment: variables(Self.secrets[0]))
                let tree = try scenario.leader().tree
                let standby = try scenario.start("b", options: options, environment: variables(Self.secrets[0]))
                try eventually("b stands by") { standby.readiness?.role == "standby" }
                try scenario.justRenewed(leader)
                let deadline = try #require(leader.readiness?.deadline)

                try scenario.setPassword(Self.secrets[1])
                try scenario.dropSessions()
                #expect(try standby.waitForExit() == .code(83), "\(standby.log)")
                #expect(standby.log.contains("--auth-failure-limit"))
                // However short the limit: not before the child's own deadline, and not before its tree is dead.
                let end = try leader.waitForExit()
                #expect(end == .code(83) || end == .code(80), "\(leader.log)")
                let last = try #require(scenario.recording.lastAlive(of: tree.id))
                #expect(last > deadline - .seconds(1), "killed for the sake of an exit\n\(scenario.report)")
                #expect(!scenario.isAlive(tree.id))

                try scenario.start("c", environment: variables(Self.secrets[1]))
                try scenario.takeover(from: tree)
                try scenario.expectNoSecrets(Self.secrets)
            }
        }

        @Test func aServerThatIsAwayIsNoRefusedLogin() async throws {
            let server = try await Self.server()
            try await Scenario.run(on: server) { scenario in
                try scenario.setPassword(Self.secrets[0])
                let options = ["--auth-failure-limit", "1ms"]
                let environment = ["SIDECAR_DATABASE_URL": scenario.url(password: Self.secrets[0])]
                let leader = try scenario.start("a", options: options, child: [], environment: environment)
                let tree = try scenario.leader(members: 1).tree
                let standby = try scenario.start("b", options: options, child: [], environment: environment)
                try eventually("b stands by") { standby.readiness?.role == "standby" }
                try server.stop()
                try scenario.gone(tree.id)
                try eventually("it is told of") { standby.log.contains("Connection refused") }
                try server.start()
                try scenario.steady(try scenario.leader(after: tree.id, members: 1).tree.id)
                #expect(standby.exit == nil && leader.exit != .code(83), "\(scenario.report)")
            }
        }

        /// Two databases are two leases: a sidecar that moved alone would lead beside the others.
        @Test func aFileThatNamesAnotherDatabaseMovesNobody() async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(.file, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                let sidecar = try scenario.start("a", options: login.options, child: [], environment: login.environment)
                let tree = try scenario.leader(members: 1).tree
                try login.put(scenario.url(password: Self.secrets[0]).replacing(scenario.database, with: "elsewhere"))
                try scenario.dropSessions()
                try eventually("it is told of") { sidecar.log.contains("now names another database") }
                try eventually("it goes on where it was") { sidecar.log.contains("resumed the lease") }
                try scenario.steady(tree.id)
                try scenario.expectNoSecrets(Self.secrets)
            }
        }

        /// A mount that hangs must cost no renewal: what was read last counts. (A pipe's place cannot hang it either.)
        @Test(arguments: ["gone", "pipe"]) func aFileThatCannotBeReadIsToldOfAndDoesNotMatter(_ kind: String)
            async throws
        {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(.file, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                let sidecar = try scenario.start("a", options: login.options, child: [], environment: login.environment)
                let tree = try scenario.leader(members: 1).tree
                try FileManager.default.removeItem(atPath: login.path)
                if kind == "pipe" { #expect(mkfifo(login.path, 0o600) == 0) }
                try scenario.dropSessions()
                try eventually("it resumes") { sidecar.log.contains("resumed the lease") }
                #expect(sidecar.log.contains("going on with what was read last"), "\(sidecar.log)")
                try scenario.steady(tree.id)
            }
        }

        /// It is run outside the loop: renewals go on, a probe says yes, and it ends at its own limit.
        @Test func aCommandThatHangsHoldsNothingUp() async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(.command, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                let sidecar = try scenario.start("a", options: login.options, child: [], environment: login.environment)
                _ = try scenario.leader(members: 1)
                // The command reads it, and waits for a writer.
                try FileManager.default.removeItem(atPath: login.path)
                #expect(mkfifo(login.path, 0o600) == 0)
                try scenario.setPassword(Self.secrets[1])
                try scenario.dropSessions()
                try eventually("its child is dead") { sidecar.tree.isEmpty }
                try eventually("the loop turns on") {
                    sidecar.log.components(separatedBy: "lost the lease").count > 1
                }
                #expect(try sidecar.probe("live") == .code(0))
                // Whoever writes lets it end: then it is used.
                try Data(scenario.url(password: Self.secrets[1]).utf8).write(to: URL(fileURLWithPath: login.path))
                try eventually("it leads again") { sidecar.log.components(separatedBy: "the command runs").count > 2 }
                try scenario.expectNoSecrets(Self.secrets)
            }
        }

        /// The keeper kills what falls to it from a dead guard, and waits for that to be gone. A helper program is no part of it.
        @Test(arguments: ["guard killed", "asked to stop"])
        func aCommandThatHangsNeitherHoldsUpTheEndNorOutlivesIt(_ how: String) async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(.command, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                let sidecar = try scenario.start("a", options: login.options, child: [], environment: login.environment)
                let tree = try scenario.leader(members: 1).tree
                // The command reads it, and waits for a writer.
                try FileManager.default.removeItem(atPath: login.path)
                #expect(mkfifo(login.path, 0o600) == 0)
                try scenario.setPassword(Self.secrets[1])
                try scenario.dropSessions()
                let keeper = try #require(sidecar.keeper)
                var command: pid_t?
                try eventually("the command runs") {
                    command = ProcessTable.children(of: keeper).first { $0.name == "cat" }?.pid
                    return command != nil
                }
                if how == "guard killed" { sidecar.signalGuard(SIGKILL) } else { sidecar.signalKeeper(SIGTERM) }
                // The command itself would be killed after 30 s, and then no longer be in anybody's way.
                let end = try sidecar.waitForExit(timeout: .seconds(20))
                #expect(end == .code(how == "guard killed" ? 80 : 0), "\(sidecar.log)")
                #expect(!ProcessTable.isAlive(try #require(command)), "left behind")
                #expect(!scenario.isAlive(tree.id))
            }
        }

        @Test(arguments: ["check", "lease", "migrate"]) func theOtherCommandsReadTheFile(_ command: String) async throws
        {
            try await Scenario.run(on: try await Self.server()) { scenario in
                let login = try Login(.file, scenario)
                try login.give(Self.secrets[0])
                try scenario.setPassword(Self.secrets[0])
                try scenario.start("a", options: login.options, child: [], environment: login.environment)
                _ = try scenario.leader(members: 1)
                let lease = command == "migrate" ? [] : ["--lease", scenario.lease]
                let process = try SpawnedProcess(
                    [SidecarProcess.binary, command, "--database-url-file", login.path] + lease,
                    environment: SidecarProcess.cleanEnvironment, output: "\(scenario.directory)/\(command).log")
                #expect(try process.waitForExit() == .code(0), "\(process.output)")
            }
        }

        @Test func theChildDoesNotInheritTheURLUnlessToldTo() async throws {
            try await Scenario.run(on: try await Self.server()) { scenario in
                try scenario.setPassword(Self.secrets[0])
                let url = scenario.url(password: Self.secrets[0])
                let environment = ["SIDECAR_DATABASE_URL": url, "SIDECAR_DATABASE_URLS": "kept"]
                for (node, options) in [("a", []), ("b", ["--keep-database-url"])] {
                    let sidecar = try scenario.start(node, options: options, child: [], environment: environment)
                    var tree: [RunningProcess] = []
                    try eventually("\(node) runs its child") {
                        tree = sidecar.tree
                        return !tree.isEmpty && sidecar.log.contains("the command runs")
                    }
                    let variables = try #require(tree.first.map { ProcessTable.environment(of: $0.pid) })
                    #expect(variables.contains("SIDECAR_DATABASE_URL=\(url)") == (node == "b"), "\(variables)")
                    #expect(variables.contains { $0.contains(Self.secrets[0]) } == (node == "b"))
                    #expect(variables.contains("SIDECAR_DATABASE_URLS=kept"), "another variable")
                    sidecar.signalKeeper(SIGTERM)
                    #expect(try sidecar.waitForExit() == .code(0), "\(sidecar.log)")
                }
            }
        }
    }
}

/// One way of telling sidecars the password, and how it is rotated.
private struct Login {
    let way: DatabaseMatrix.Credentials.Way
    let scenario: Scenario
    let path: String
    let options: [String]
    let environment: [String: String]

    init(_ way: DatabaseMatrix.Credentials.Way, _ scenario: Scenario) throws {
        self.way = way
        self.scenario = scenario
        let path = scenario.directory + "/login"
        self.path = path
        switch way {
        case .file, .linkedFile: (options, environment) = (["--database-url-file", path], [:])
        case .fileInPlace: (options, environment) = ([], ["SIDECAR_DATABASE_URL_FILE": path])
        case .command: (options, environment) = ([], ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "cat '\(path)'"])
        case .passwordFile:
            (options, environment) = ([], ["SIDECAR_DATABASE_URL": scenario.url(), "PGPASSFILE": path])
        }
    }

    func give(_ secret: String) throws {
        try put(way == .passwordFile ? "*:*:*:*:\(secret)" : scenario.url(password: secret))
    }

    func put(_ text: String) throws {
        switch way {
        case .fileInPlace: try Data("\(text)\n".utf8).write(to: URL(fileURLWithPath: path))
        case .linkedFile:
            let folder = "\(path)-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try Data("\(text)\n".utf8).write(to: URL(fileURLWithPath: folder + "/url"))
            #expect(symlink(folder + "/url", folder + "/link") == 0 && rename(folder + "/link", path) == 0)
        case .file, .command, .passwordFile:
            try Data("\(text)\n".utf8).write(to: URL(fileURLWithPath: path + ".new"))
            #expect(chmod(path + ".new", 0o600) == 0 && rename(path + ".new", path) == 0)
        }
    }
}

extension Scenario {
    fileprivate func url(password: String) -> String {
        "postgresql://airflow:\(password)@127.0.0.1:\(postgres.port)/\(database)"
    }

    fileprivate func setPassword(_ password: String) throws {
        try session().rows("ALTER ROLE airflow PASSWORD '\(password)'")
    }

    /// Ends the sidecars' sessions, so that they must log in again.
    fileprivate func dropSessions() throws {
        try session().rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'airflow'")
    }

    /// What a sidecar may show holds none of them: logs and readiness files, command lines, and what the database has of it.
    fileprivate func expectNoSecrets(_ secrets: [String]) throws {
        var shown = sidecars.map(\.log)
        for sidecar in sidecars {
            for path in [sidecar.readyFile, sidecar.readyFile + ".live", sidecar.readyFile + ".lock"] {
                shown.append(String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self))
            }
            for pid in [sidecar.keeper, sidecar.guardian].compactMap({ $0 }) {
                let words = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
                shown.append(String(decoding: words, as: UTF8.self))
            }
        }
        let session = try session()
        for table in ["lease", "member", "history"] {
            shown += try session.rows("SELECT t::text FROM sidecar.\(table) AS t").map { $0[0] ?? "" }
        }
        shown += try session.rows("SELECT application_name FROM pg_stat_activity").map { $0[0] ?? "" }
        for secret in secrets {
            let leaks = shown.filter { $0.contains(secret) }
            #expect(leaks.isEmpty, "\(leaks)")
        }
    }
}
