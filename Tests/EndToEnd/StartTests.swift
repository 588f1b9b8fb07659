// What can go wrong before the loop runs: a guard that dies while the settings are still being read, a setting that goes before
// another.

import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct Start {
        /// Nobody listened for its SIGCHLD yet: the keeper must notice all the same, or it stands by for ever, unfit.
        @Test func aGuardThatDiesWhileSettingsAreReadIsNoticed() throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let gate = directory + "/gate"
            let url = "postgresql://nobody@127.0.0.1:1/none"
            let process = try SpawnedProcess(
                [SidecarProcess.binary, "run", "--ttl", "1s", "--ready-file", directory + "/ready", "--", "true"],
                environment: SidecarProcess.cleanEnvironment.merging([
                    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD":
                        "sh -c 'while [ ! -e \(gate) ]; do sleep 0.05; done; echo \(url)'"
                ]) { $1 }, output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            var guardian: pid_t?
            try eventually("the guard is there") {
                guardian =
                    ProcessTable.children(of: process.pid).first { $0.name == "sidecar-guard" && $0.state != "Z" }?.pid
                return guardian != nil
            }
            kill(try #require(guardian), SIGKILL)
            try Data().write(to: URL(fileURLWithPath: gate))
            let end = try process.waitForExit()
            #expect(end == .code(80), "\(end)\n\(process.output)")
        }

        /// OpenShift gives a container such a user id. libpq asks for its name where it is given none.
        @Test(.enabled(if: getuid() == 0, "only root may become another user"))
        func aUserIDWithoutANameReachesTheDefaultSocket() throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            // Its own way into the build folder may not be open to others.
            let binary = directory + "/sidecar"
            try copyProgram(SidecarProcess.binary, to: binary)
            chmod(directory, 0o755)
            let process = try SpawnedProcess(
                ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", binary, "lease", "--database-url"]
                    + ["postgresql://u@:1/d"],
                environment: SidecarProcess.cleanEnvironment, output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            #expect(try process.waitForExit() == .code(69), "\(process.output)")
            #expect(process.output.contains("cannot connect to u@/"), "\(process.output)")
        }

        /// It would be replaced, and removed at the end.
        @Test func whatIsNoReadinessFileIsLeftAlone() throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            #expect(mkfifo(directory + "/pipe", 0o600) == 0)
            for name in ["precious", "beside.live"] {
                try Data("precious".utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
            }
            #expect(symlink("/dev/null", directory + "/link") == 0)
            for name in ["pipe", "precious", "link", "beside", "absent/", ""] {
                let process = try SpawnedProcess(
                    [SidecarProcess.binary, "run", "--database-url", "postgresql://u@127.0.0.1:1/d", "--ready-file"]
                        + ["\(directory)/\(name)", "--", "true"],
                    environment: SidecarProcess.cleanEnvironment, output: directory + "/log")
                defer { if process.exit == nil { process.signal(SIGKILL) } }
                #expect(try process.waitForExit() == .code(78), "\(name): \(process.output)")
                #expect(process.output.contains("--ready-file"), "\(process.output)")
                var status = stat()
                let kept = name == "beside" ? "beside.live" : name
                #expect(lstat("\(directory)/\(kept)", &status) == 0 || name == "absent/", "\(name) is gone")
            }
        }

        /// Otherwise the default is in force, and nobody knows. What others than people set is no reason for a warning.
        @Test func aSlipInAVariablesNameIsReportedOnce() throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let environment = SidecarProcess.cleanEnvironment.merging([
                "SIDECAR_TLL": "61s", "SIDECAR_NODE": "n1", "SIDECAR_EPOCH": "7", "SIDECAR_INSTANCE": "i",
                "SIDECAR_DB_SERVICE_HOST": "10.0.0.1", "SIDECAR_DB_PORT": "tcp://10.0.0.1:5432",
            ]) { $1 }
            let warning = "the variable SIDECAR_TLL is unknown and has no effect; did you mean SIDECAR_TTL?"
            for command in [["run", "--ready-file", directory + "/ready"], ["check"]] {
                let process = try SpawnedProcess(
                    [SidecarProcess.binary] + command + ["--database-url", "postgresql://u@127.0.0.1:1/d"]
                        + (command[0] == "run" ? ["--", "true"] : []), environment: environment,
                    output: directory + "/log-" + command[0])
                defer { if process.exit == nil { process.signal(SIGKILL) } }
                try eventually("it tries to connect") { process.output.contains("cannot connect") }
                process.signal(SIGTERM)
                _ = try process.waitForExit()
                #expect(process.output.components(separatedBy: warning).count == 2, "\(process.output)")
                #expect(process.output.components(separatedBy: "is unknown").count == 2, "\(process.output)")
                #expect(!process.output.contains("61s"), "\(process.output)")
            }
        }

        /// The slip may be why there is no database; the log, which would tell of it, is not there yet.
        @Test(arguments: ["run", "check"]) func aSlipThatEndsTheStartIsReportedWithTheError(_ command: String) throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let process = try SpawnedProcess(
                [SidecarProcess.binary, command] + (command == "run" ? ["--", "true"] : []),
                environment: SidecarProcess.cleanEnvironment.merging([
                    "SIDECAR_DATABASE_ULR": "postgresql://u:hunter2@h/d"
                ]) { $1 }, output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            #expect(try process.waitForExit() == .code(78), "\(process.output)")
            #expect(
                process.output.contains(
                    "SIDECAR_DATABASE_ULR is unknown and has no effect; did you mean SIDECAR_DATABASE_URL?"))
            #expect(process.output.contains("no database given") && !process.output.contains("hunter2"))
        }

        /// A '=' with an accent behind it is another character, and no separator for who looks at characters.
        @Test func aVariableThatBeginsWithAnAccentIsNotOverlooked() throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let process = try SpawnedProcess(
                [SidecarProcess.binary, "run", "--database-url", "postgresql://u@127.0.0.1:1/d", "--", "true"],
                environment: SidecarProcess.cleanEnvironment.merging(["SIDECAR_TTL": "\u{301}x"]) { $1 },
                output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            #expect(try process.waitForExit() == .code(78), "\(process.output)")
        }

        /// libpq would read it, and wait for a writer.
        @Test(arguments: ["run", "check"]) func aServiceFileThatIsAPipeIsRefused(_ command: String) throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            #expect(mkfifo(directory + "/pipe", 0o600) == 0)
            let rest = command == "run" ? ["--ready-file", directory + "/ready", "--", "true"] : []
            let process = try SpawnedProcess(
                [SidecarProcess.binary, command] + rest,
                environment: SidecarProcess.cleanEnvironment.merging([
                    "PGSERVICE": "x", "PGSERVICEFILE": directory + "/pipe",
                ]) { $1 }, output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            #expect(try process.waitForExit() == .code(78), "\(process.output)")
        }

        /// Two databases are two leases: a place that has the variable, and one that has not, would both lead.
        @Test(arguments: ["run", "check"]) func libpqsVariableBeforeAirflowsIsWarnedOf(_ command: String) throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            func sidecar(_ variables: [String: String]) throws -> SpawnedProcess {
                let rest = command == "run" ? ["--ready-file", directory + "/ready", "--", "true"] : []
                return try SpawnedProcess(
                    [SidecarProcess.binary, command] + rest,
                    environment: SidecarProcess.cleanEnvironment.merging(variables) { $1 },
                    output: "\(directory)/log-\(variables.count)")
            }
            let airflows = ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody:hidden@127.0.0.1:1/none"]
            let warning = "PGHOST takes precedence over AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
            for (variables, isWarned) in [(airflows, false), (airflows.merging(["PGHOST": directory]) { $1 }, true)] {
                let process = try sidecar(variables)
                defer { if process.exit == nil { process.signal(SIGKILL) } }
                try eventually("it has tried to connect") { process.output.contains("cannot connect to ") }
                process.signal(SIGTERM)
                _ = try process.waitForExit()
                #expect(process.output.contains(warning) == isWarned, "\(process.output)")
                #expect(!process.output.contains("hidden"))
            }
        }
    }
}
