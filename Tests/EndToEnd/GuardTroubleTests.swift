// Guards and keepers in trouble that is not theirs: a guard that cannot die, a host full of other processes, a SIGKILL for all
// who carry the command's words, a process that nobody may kill. And what people are told about it.

import Clock
import Foundation
import TestSupport
import Testing

extension ProcessMatrix {
    @Suite struct GuardTrouble {
        private static let holder = builtProducts + "/StartHolder"

        /// Whether one process may trace another here.
        private static let mayTrace: Bool = {
            let output = NSTemporaryDirectory() + "sidecar-e2e-may-trace-\(getpid())"
            defer { unlink(output) }
            let process = try? SpawnedProcess([holder], environment: SidecarProcess.cleanEnvironment, output: output)
            return (try? process?.waitForExit()) == .code(0)
        }()

        /// With a debugger that stands in the way of its death (t), or only of its burial (Z).
        @Test(.enabled(if: mayTrace, "one process may not trace another here"), arguments: ["t", "Z"])
        func aTracedGuardsTreeIsKilledByTheKeeperInTime(_ state: Character) async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let guardian = try #require(pair.leader.guardian)
                let hold = [Self.holder, "hold", "\(guardian)"] + (state == "Z" ? ["dead"] : [])
                // On behalf of a guard that is held nothing is renewed.
                try scenario.justRenewed(pair.leader)
                let holder = try SpawnedProcess(
                    hold, environment: SidecarProcess.cleanEnvironment, output: scenario.directory + "/holder")
                defer { holder.signal(SIGKILL) }
                try eventually("the guard is held") { holder.output.contains("holder ready") }
                var deadline = try #require(pair.leader.readiness?.deadline)
                try scenario.gone(pair.tree.id) {
                    deadline = max(deadline, pair.leader.readiness?.deadline ?? deadline)
                }
                try scenario.expectDead(pair.tree.id, before: deadline)
                let end = try pair.leader.waitForExit()
                #expect(end == .code(80), "\(end)\n\(scenario.report)")
                #expect(RunningProcess(guardian)?.state == state, "nothing was shown\n\(scenario.report)")
                #expect(try pair.leader.probe("live") != .code(0), "\(scenario.report)")
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
            }
        }

        /// Time to kill must not depend on them. At this TTL the keeper is patient for 50 ms.
        @Test(.alone) func aHostFullOfProcessesCostsNoGuard() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let leader = try scenario.start("a", options: ["--ttl", "1s", "--margin", "200ms"])
                let tree = try scenario.leader().tree
                let crowd = try SpawnedProcess(
                    [builtProducts + "/TreeShapes", "crowd", scenario.directory + "/forks", "4000"],
                    environment: SidecarProcess.cleanEnvironment, output: scenario.directory + "/crowd")
                defer {
                    crowd.signal(SIGKILL)
                    _ = try? crowd.waitForExit()
                }
                try eventually("the crowd is there") { crowd.output.contains("shape ready") }
                let session = try scenario.session()
                for _ in 1...5 {
                    guard let leading = try? scenario.leader(members: 1), leader.exit == nil else { break }
                    // Lost: the guard must kill now, and its keeper asks it whether it does.
                    try session.rows("UPDATE sidecar.lease SET epoch = epoch + 1 WHERE name = '\(scenario.lease)'")
                    try scenario.gone(leading.tree.id)
                }
                #expect(leader.exit == nil && !leader.log.contains("does not answer"), "\(scenario.report)")
                #expect(scenario.recording.trees.first?.id == tree.id)
            }
        }

        @Test func whoeverKillsByTheCommandsWordsSparesTheGuard() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair()
                let guardian = try #require(pair.leader.guardian)
                let keeper = try #require(pair.leader.keeper)
                // As `pkill -9 -f` with words of the command would do, but to this sidecar's processes alone.
                let own = [keeper, guardian] + scenario.processes(of: pair.tree.id).map(\.pid)
                let named = own.filter { pid in
                    let line = (try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8)) ?? ""
                    return line.contains(scenario.recordings)
                }
                #expect(named.contains(keeper))
                // The recorder's members are forked without an exec. Daemons of a real command have other words.
                let main = pid_t(pair.tree.id.main)
                for pid in named where pid == keeper || pid == guardian || pid == main { kill(pid, SIGKILL) }
                try scenario.gone(pair.tree.id)
                let new = try scenario.takeover(from: pair.tree)
                #expect(new.sidecar === pair.standby)
            }
        }

        @Test func aStoppedCommandTakesItsSIGTERM() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let leader = try scenario.start("a", options: ["--grace", "10m"], child: [])
                let tree = try scenario.leader(members: 1).tree
                let main = pid_t(tree.id.main)
                kill(main, SIGSTOP)
                try eventually("the command is stopped") { RunningProcess(main)?.state == "T" }
                leader.signalKeeper(SIGTERM)
                #expect(try leader.waitForExit() == .code(0), "\(scenario.report)")
            }
        }

        @Test func whatTheCommandLeavesBehindIsNamed() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // Until it executes its command, what a shell forks bears the shell's name.
                let script = """
                    sleep 1000 & first=$!
                    setsid sleep 1001 & second=$!
                    for pid in $first $second; do until [ "$(cat /proc/$pid/comm)" = sleep ]; do sleep 0.02; done; done
                    """
                let leader = try scenario.start("a", options: ["--once"], command: ["sh", "-c", script])
                #expect(try leader.waitForExit() == .code(0), "\(scenario.report)")
                #expect(leader.log.contains("left 2 processes running, now killed: sleep (pid "), "\(scenario.report)")
            }
        }

        private static let canBeNobody: Bool = getuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0

        @Test(.enabled(if: canBeNobody, "needs root and setpriv(1)"))
        func aProcessThatNobodyMayKillIsNamedAndDoesNotHoldUpTheEnd() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // A setuid program that then becomes root for good.
                let helper = scenario.directory + "/setpriv"
                try copyProgram("/usr/bin/setpriv", to: helper)
                for path in [scenario.directory, scenario.recordings] { chmod(path, 0o777) }
                chmod(helper, 0o4755)
                let become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
                let script =
                    "'\(helper)' --reuid 0 --regid 0 --clear-groups sleep 1000 & exec \"$@\""
                let leader = try scenario.start(
                    "a",
                    command: ["sh", "-c", script, "sh", SidecarProcess.recorder, scenario.recordings], launcher: become)
                let tree = try scenario.leader(members: 1).tree
                let standby = try scenario.start("b")
                try eventually("the helper is root's") {
                    scenario.processes(of: tree.id).contains { $0.name == "sleep" }
                }
                leader.signalGuard(SIGKILL)
                try eventually("it is named") { leader.log.contains("cannot kill sleep (pid ") }
                #expect(leader.exit == nil, "\(scenario.report)")
                #expect(try leader.probe("live") != .code(0), "\(scenario.report)")
                leader.signalKeeper(SIGTERM)
                #expect(try leader.waitForExit() == .code(80), "\(scenario.report)")
                #expect(!leader.log.contains("released the lease"), "\(scenario.report)")
                #expect(standby.exit == nil)
                for process in leader.tree { kill(process.pid, SIGKILL) }
            }
        }
    }
}
