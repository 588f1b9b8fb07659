// What the start brings along and must not be forgotten: signals that are ignored, a terminal, limits, what is mounted, and
// another sidecar on the same readiness file.

import Clock
import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct StartConditions {
        /// nohup, and a shell's `&` in a script: neither the sidecar nor its command is to hear of those signals.
        @Test(arguments: [("HUP", SIGHUP), ("INT", SIGINT), ("QUIT", SIGQUIT)])
        func aSignalIgnoredAtTheStartStaysIgnored(_ name: String, _ number: Int32) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let ignoring = name == "HUP" ? ["nohup"] : ["sh", "-c", "trap '' \(name); exec \"$@\"", "sh"]
                let sidecar = try scenario.start("a", command: ["sleep", "1000"], launcher: ignoring)
                try eventually("the command runs") { sidecar.log.contains("the command runs") }
                let child = try #require(sidecar.tree.first?.pid)
                #expect(try isIgnored(number, by: child), "the command must keep it ignored")
                #expect(try !isIgnored(SIGPIPE, by: child) && !isIgnored(SIGXFSZ, by: child))
                sidecar.signalKeeper(number)
                kill(child, number)
                for _ in 0..<2 { try scenario.justRenewed(sidecar) }
                #expect(sidecar.tree.map(\.pid) == [child], "\(scenario.report)")
                sidecar.signalKeeper(SIGTERM)
                #expect(try sidecar.waitForExit() == .code(0), "\(sidecar.log)")
            }
        }

        /// As in a container or a service: it means what it means to the command.
        @Test func withoutATerminalSIGHUPGoesToTheCommand() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let file = scenario.directory + "/reloaded"
                let script = "trap 'echo yes >> \(file)' HUP; echo the trap is set; while :; do sleep 0.1; done"
                let sidecar = try scenario.start("a", command: ["sh", "-c", script])
                try eventually("the command runs") { sidecar.log.contains("the trap is set") }
                try eventually("it is told to reload") {
                    sidecar.signalKeeper(SIGHUP)
                    return FileManager.default.fileExists(atPath: file)
                }
                #expect(sidecar.exit == nil && !sidecar.log.contains("stopping"))
                #expect(!sidecar.log.contains("the command ended"), "\(sidecar.log)")
                _ = try scenario.session().rows("SELECT 1")
            }
        }

        @Test func aTerminalThatClosesStopsItAsSIGTERMDoes() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // ioctl_tty(2): TIOCSPTLCK and TIOCGPTN, which Swift does not know.
                let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
                var (unlocked, number): (Int32, Int32) = (0, -1)
                try #require(terminal >= 0 && ioctl(terminal, 0x4004_5431, &unlocked) == 0)
                try #require(ioctl(terminal, 0x8004_5430, &number) == 0)
                let name = "/dev/pts/\(number)"
                // The first of a session takes the terminal that it opens for its own (tty_ioctl(2)).
                let sidecar = try scenario.start(
                    "a", child: [], launcher: ["sh", "-c", "exec \"$@\" <\"$0\"", name])
                let tree = try scenario.leader(members: 1).tree
                close(terminal)
                #expect(try sidecar.waitForExit() == .code(0), "\(sidecar.log)")
                #expect(sidecar.log.contains("stopping: sending SIGTERM to the command"), "\(sidecar.log)")
                #expect(sidecar.log.contains("released the lease"), "\(sidecar.log)")
                #expect(!scenario.isAlive(tree.id))
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
            }
        }

        /// The kernel's answer to a log that reaches the limit is a signal that ends whoever does not expect it.
        @Test func aLimitOnFilesDoesNotEndIt() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let limited = ["sh", "-c", "ulimit -S -f 0; exec \"$@\"", "sh"]
                let script = "ulimit -S -f unlimited; exec \"$@\""
                let child = [SidecarProcess.recorder, scenario.recordings]
                let sidecar = try scenario.start(
                    "a", command: ["sh", "-c", script, "sh"] + child, launcher: limited)
                let tree = try scenario.leader(members: 1).tree
                try scenario.steady(tree.id)
                #expect(sidecar.exit == nil)
                #expect(sidecar.log.isEmpty, "not a byte may be written")
                let pid = try #require(sidecar.tree.first?.pid)
                #expect(try !isIgnored(SIGXFSZ, by: pid), "the command decides for itself")
                #expect(try sidecar.probe("live") == .code(1))
                sidecar.signalKeeper(SIGTERM)
                #expect(try sidecar.waitForExit() == .code(0))
            }
        }

        @Test(
            .enabled(if: getuid() == 0, "only root may mount"),
            arguments: [
                (["--mount"], "mount -t tmpfs none /proc && ", "cannot read /proc"),
                (["--pid", "--fork", "--kill-child"], "", "/proc shows another PID namespace"),
            ])
        func withoutItsOwnProcItSaysSoInOneLine(unshared: [String], before: String, problem: String) throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let run = "run --database-url postgresql://u@127.0.0.1:1/d --ready-file \(directory)/ready -- true"
            let process = try SpawnedProcess(
                ["unshare"] + unshared + ["sh", "-c", "\(before)exec \(SidecarProcess.binary) \(run)"],
                environment: SidecarProcess.cleanEnvironment, output: directory + "/log")
            defer { if process.exit == nil { process.signal(SIGKILL) } }
            #expect(try process.waitForExit() == .code(71), "\(process.output)")
            #expect(
                process.output.hasPrefix("sidecar: \(problem)") && process.output.contains("mount"), "\(process.output)"
            )
            #expect(process.output.split(separator: "\n").count == 1, "\(process.output)")
        }

        /// Without them it would lead without a readiness file, never lead, or die of SIGSEGV.
        @Test(arguments: [
            ("ulimit -n 8", "ulimit -n"), ("ulimit -n 14", "ulimit -n"), ("ulimit -n 28", "ulimit -n"),
            ("ulimit -s 128", "ulimit -s"),
        ])
        func aLimitThatIsTooLowIsRefusedInOneLine(_ limit: String, named: String) throws {
            let directory = try makeTemporaryDirectory("sidecar-start")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let sidecar = try SidecarProcess(
                node: "a", lease: "x", databaseURL: "postgresql://u@127.0.0.1:1/d", options: [], command: ["true"],
                directory: directory, launcher: ["sh", "-c", "\(limit); exec \"$@\"", "sh"])
            defer { sidecar.destroy() }
            #expect(try sidecar.waitForExit() == .code(71), "\(sidecar.log)")
            #expect(sidecar.log.hasPrefix("sidecar: ") && sidecar.log.contains(named), "\(sidecar.log)")
            #expect(sidecar.log.contains("raise the limit"), "\(sidecar.log)")
            #expect(sidecar.log.split(separator: "\n").count == 1, "\(sidecar.log)")
        }

        /// What is allowed must be enough: at the lowest limits that are, it leads and is ready.
        @Test func theLowestLimitsAreEnough() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // 24 must be free beside the keeper's own and those that it inherits from here.
                let files = "ulimit -S -n $(($(ls /proc/self/fd | wc -l) + 27))"
                let limited = ["sh", "-c", "\(files); ulimit -S -s 256; exec \"$@\"", "sh"]
                // The limits are the sidecar's, not the recorder's.
                let script = "ulimit -S -n 1024; ulimit -S -s 8192; exec \"$@\""
                let child = [SidecarProcess.recorder, scenario.recordings]
                let sidecar = try scenario.start(
                    "a", command: ["sh", "-c", script, "sh"] + child, launcher: limited)
                _ = try scenario.leader(members: 1)
                try eventually("it leads and is ready") { try sidecar.probe("leader") == .code(0) }
                #expect(try sidecar.probe("ready") == .code(0) && sidecar.probe("live") == .code(0))
                sidecar.signalKeeper(SIGTERM)
                #expect(try sidecar.waitForExit() == .code(0), "\(sidecar.log)")
                #expect(sidecar.log.contains("exiting with code 0: stopped as asked"), "\(sidecar.log)")
            }
        }

        @Test func theSecondOnOneReadinessFileIsRefusedUntilTheFirstIsGoneHoweverItWent() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let first = try scenario.start("a", child: [])
                let tree = try scenario.leader(members: 1).tree
                let keeper = try #require(first.keeper)
                let same = ["--ready-file", first.readyFile]
                let second = try scenario.start("b", options: same, child: [])
                #expect(try second.waitForExit() == .code(78), "\(second.log)")
                #expect(second.log.contains("pid \(keeper), node a"), "\(second.log)")
                #expect(second.log.contains("--ready-file"), "\(second.log)")
                #expect(try first.probe("leader") == .code(0), "the first one's file is untouched")
                for process in first.tree.map(\.pid) + [first.guardian].compactMap({ $0 }) {
                    let files = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").map {
                        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/fd/\($0)")) ?? ""
                    }
                    #expect(!files.contains(first.readyFile + ".lock"), "\(files)")
                }
                // Killed, it leaves its file behind, and the guard still has a tree to kill.
                first.signalKeeper(SIGSTOP)
                first.signalKeeper(SIGKILL)
                _ = try first.waitForExit()
                let third = try scenario.start("c", options: same, child: [])
                let new = try scenario.leader(after: tree.id, members: 1)
                #expect(new.sidecar === third, "\(scenario.report)")
                third.signalKeeper(SIGTERM)
                #expect(try third.waitForExit() == .code(0), "\(third.log)")
                let left = try FileManager.default.contentsOfDirectory(atPath: scenario.directory)
                #expect(!left.contains { $0.hasPrefix("a.ready") && !$0.hasSuffix(".probe") }, "\(left)")
            }
        }

        /// Another namespace's clock may be years ahead or behind: every deadline looks fresh there, or none does.
        @Test(.enabled(if: getuid() == 0, "only root may make a time namespace"))
        func aProbeInAnotherTimeNamespaceBelievesNoFile() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let sidecar = try scenario.start("a", child: [])
                _ = try scenario.leader(members: 1)
                // The clock of a new namespace may only be set back as far as to zero.
                let elsewhere = ["unshare", "--time", "--boottime", "-60"]
                let process = {
                    try SpawnedProcess(
                        elsewhere + [SidecarProcess.binary, "probe", "live", "--ready-file", sidecar.readyFile],
                        environment: SidecarProcess.cleanEnvironment, output: sidecar.readyFile + ".elsewhere")
                }
                #expect(try process().waitForExit() == .code(1))
                sidecar.signalKeeper(SIGKILL)
                _ = try sidecar.waitForExit()
                try eventually("the file is dead here") { try sidecar.probe("live") == .code(1) }
                #expect(try process().waitForExit() == .code(1), "a dead file is believed")
                #expect(
                    try String(contentsOfFile: sidecar.readyFile + ".elsewhere", encoding: .utf8).contains(
                        "time namespace"))
            }
        }
    }
}

/// Whether a process has set a signal to be ignored (proc(5), SigIgn).
private func isIgnored(_ number: Int32, by pid: pid_t) throws -> Bool {
    let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("SigIgn:") })
    let mask = try #require(UInt64(line.dropFirst(7).filter { !$0.isWhitespace }, radix: 16))
    return mask & (1 << UInt64(number - 1)) != 0
}
