// Helper commands that behave badly: each is refused in words of its own, within its time, and nothing of it lives on.

import Clock
import Foundation
import Testing
import Text

@testable import Helpers

@Suite("Helper commands") struct SubprocessTests {
    private func shell(_ script: String, limit: Duration = .seconds(20)) -> Result<String, Subprocess.Problem> {
        Subprocess.output(of: ["sh", "-c", script], limit: limit)
    }

    private func refusal(_ script: String, limit: Duration = .seconds(20)) -> String? {
        guard case .failure(let problem) = shell(script, limit: limit) else { return nil }
        return problem.reason
    }

    @Test("One that closes its output and ends later has printed what it printed") func closesEarly() {
        #expect(shell("echo URL; exec >&-; sleep 0.3") == .success("URL\n"))
        #expect(refusal("echo URL; exec >&-; sleep 0.3; exit 3") == "failed")
    }

    @Test("One that closes its output and lives on is waited for until its limit") func livesOn() {
        let begin = BootClock.now()
        #expect(refusal("echo hunter2; exec >&-; exec sleep 200", limit: .seconds(1)) == "did not end within 1s")
        #expect(BootClock.now().since(begin) < .seconds(100))
    }

    @Test("Whatever a killed one has started is killed with it", arguments: ["", "exec >&-;"])
    func leavesNothing(closing: String) throws {
        let file = NSTemporaryDirectory() + "sidecar-subprocess-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: file) }
        #expect(
            refusal("\(closing) sleep 100 & echo $! > \(file); sleep 100; true", limit: .seconds(5))
                == "did not end within 5s")
        let left = try #require(
            pid_t(String(decoding: try Data(contentsOf: URL(filePath: file)), as: UTF8.self).trimming()))
        let limit = BootClock.now() + .seconds(30)
        while isAlive(left), BootClock.now() < limit { usleep(10_000) }
        #expect(!isAlive(left))
    }

    /// Not ended, a zombie included that its new parent has not noticed yet.
    private func isAlive(_ pid: pid_t) -> Bool {
        guard let data = try? Data(contentsOf: URL(filePath: "/proc/\(pid)/stat")) else { return false }
        return String(decoding: data, as: UTF8.self).split(separator: ")").last?.hasPrefix(" Z") == false
    }

    @Test("The end is known where SIGCHLD was inherited as ignored") func ignoredSignal() async {
        await #expect(processExitsWith: .success) {
            for (code, succeeds) in [(3, false), (0, true)] {
                signal(SIGCHLD, SIG_IGN)
                let result = Subprocess.output(of: ["sh", "-c", "echo URL; exit \(code)"], limit: .seconds(20))
                guard result == (succeeds ? .success("URL\n") : .failure(Subprocess.Problem(reason: "failed"))) else {
                    exit(9)
                }
            }
            exit(0)
        }
    }

    @Test("An end that somebody else was told of is not a good one") func lostEnd() {
        #expect(Subprocess.wait(for: getppid(), until: BootClock.now() + .seconds(1)) == .lost(ECHILD))
    }

    @Test("One that prints too much is told so, and long before its limit") func printsTooMuch() {
        let begin = BootClock.now()
        #expect(refusal("exec yes hunter2", limit: .seconds(200)) == "printed more than 1048576 bytes")
        #expect(BootClock.now().since(begin) < .seconds(100))
        #expect(refusal("head -c 1048577 /dev/zero") == "printed more than 1048576 bytes")
        guard case .success(let text) = shell("head -c 1048576 /dev/zero") else {
            Issue.record("not as much as is allowed")
            return
        }
        #expect(text.utf8.count == Subprocess.sizeLimit)
    }

    @Test(
        "What is not UTF-8 is refused and not repaired, as a password would become another",
        arguments: [#"\377"#, #"\303"#, #"\355\240\200"#, #"\300\257"#])
    func notUTF8(bytes: String) {
        #expect(refusal("printf 'postgresql://u:hunter2\(bytes)@h/d'") == "printed what is not UTF-8")
        #expect(shell(#"printf 'p\303\274'"#) == .success("pü"))
    }
}
