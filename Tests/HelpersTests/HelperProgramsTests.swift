// Helper programs that behave badly: each is judged in words of its own, within its limits, holds up nobody, and nothing of it
// lives on.

import Clock
import Foundation
import Guard
import Synchronization
import TestSupport
import Testing
import Text

@testable import Helpers

@Suite("Helper programs") struct HelperProgramsTests {
    private let helpers = HelperPrograms(most: 1000)

    /// Runs a program without keeping a thread of the tests'.
    private func run(_ program: HelperProgram) async -> HelperResult {
        await withCheckedContinuation { done in helpers.start(program) { done.resume(returning: $0) } }
    }

    private func shell(
        _ script: String, limit: Duration = .seconds(60), outputLimit: Int = 1 << 20
    ) async -> HelperResult {
        await run(HelperProgram(["sh", "-c", script], timeLimit: limit, outputLimit: outputLimit))
    }

    private func text(_ result: HelperResult) -> String { String(decoding: result.output, as: UTF8.self) }

    /// A file for a script to tell a pid in.
    private func note() -> String { NSTemporaryDirectory() + "sidecar-helper-\(UUID().uuidString)" }

    /// The pid that a script has written there.
    private func pid(in file: String) async throws -> pid_t {
        var found: pid_t?
        try await eventually(awaiting: "a pid is in \(file)") {
            found = pid_t(ProcessTable.text(file).trimming())
            return found != nil
        }
        try? FileManager.default.removeItem(atPath: file)
        return try #require(found)
    }

    private func isGone(_ pid: pid_t) async throws {
        try await eventually(awaiting: "\(pid) is gone") { !ProcessTable.isAlive(pid) }
    }

    // MARK: What it gets, and how its end is told

    @Test(
        "Its end is told as it was",
        arguments: [
            ("exit 0", HelperResult.End.exited(code: 0), nil as String?),
            ("exit 3", .exited(code: 3), "ended with code 3"),
            ("kill -9 $$", .killed(signal: 9), "was killed by signal 9"),
        ])
    func ends(script: String, end: HelperResult.End, words: String?) async {
        let result = await shell("echo URL; \(script)")
        #expect(result == HelperResult(end, output: Array("URL\n".utf8)))
        #expect(result.problem == words)
    }

    @Test(
        "What cannot be executed says why",
        arguments: [
            (["/nonexistent/command"], ENOENT), (["no-such-command-in-path"], ENOENT), (["/etc/passwd"], EACCES),
            (["/"], EACCES), ([""], ENOENT), ([], ENOENT),
        ])
    func notExecutable(words: [String], number: Int32) async throws {
        let result = await run(HelperProgram(words, timeLimit: .seconds(60)))
        #expect(result == HelperResult(.notStarted(errno: number)))
        #expect(result.problem == "cannot be executed: \(errorText(number))")
        try await eventually(awaiting: "nothing is left of it") { helpers.count == 0 }
    }

    @Test("It has the environment it is given, and no descriptor of ours") func inherited() async {
        // Not close-on-exec, as those are that whoever starts a sidecar means for the command.
        let descriptor = dup2(STDERR_FILENO, 200)
        defer { close(descriptor) }
        #expect(await text(shell("test -e /proc/$$/fd/\(descriptor) || echo none")) == "none\n")
        let words = ["sh", "-c", "echo $A; echo oops >&2"]
        let limit = Duration.seconds(60)
        let given = await run(
            HelperProgram(words, environment: ["A=b c"], timeLimit: limit, errors: .collected))
        #expect(text(given) == "b c\noops\n")
        #expect(await text(shell("test \"$PATH\" = '\(String(cString: getenv("PATH")))' && echo same")) == "same\n")
    }

    @Test("Its input is empty, whatever ours is") func emptyInput() async {
        await #expect(processExitsWith: .success) {
            var ends: [Int32] = [-1, -1]
            guard pipe(&ends) == 0, write(ends[1], "ours", 4) == 4, dup2(ends[0], 0) == 0 else { exit(8) }
            close(ends[1])
            let result = HelperPrograms().run(HelperProgram(["cat"], timeLimit: .seconds(60)))
            exit(result == HelperResult(.exited(code: 0)) ? 0 : 9)
        }
    }

    @Test("Its end is known where SIGCHLD was inherited as ignored") func ignoredSignal() async {
        await #expect(processExitsWith: .success) {
            for code in [3, 0] as [Int32] {
                signal(SIGCHLD, SIG_IGN)
                let program = HelperProgram(["sh", "-c", "exit \(code)"], timeLimit: .seconds(60))
                guard HelperPrograms().run(program) == HelperResult(.exited(code: code)) else { exit(9) }
            }
            exit(0)
        }
    }

    // MARK: Its limits

    @Test("One that closes its output and ends later has printed what it printed") func closesEarly() async {
        let closed = await shell("echo URL; exec >&-; sleep 0.3")
        #expect(closed == HelperResult(.exited(code: 0), output: Array("URL\n".utf8)))
        #expect(await shell("exec >&-; sleep 0.3; exit 3").end == .exited(code: 3))
        // It would end by itself much later.
        for closing in ["", "exec >&-;"] {
            let livesOn = await shell("\(closing) exec sleep 60", limit: .seconds(1))
            #expect(livesOn.end == .tookTooLong(limit: .seconds(1)))
        }
    }

    /// What it does until its limit, after it has told its pid.
    @Test(
        "One that lives on is killed at its limit, with its whole group",
        arguments: [
            "sleep 1000", "trap '' TERM HUP INT; sleep 1000; sleep 1000",
            "kill -STOP $$", "kill -STOP 0", "while :; do :; done", "exit 0",
        ])
    func livesOn(rest: String) async throws {
        // On a busy machine it may not come so far before its limit: then it gets more time.
        for limit in [2, 10, 60] {
            let files = [note(), note(), note()]
            // One daemon keeps the output open, the other does not; both are orphans in its group.
            let result = await shell(
                """
                echo URL; (sleep 1000 & echo $! > \(files[0])); (sleep 1000 >&- & echo $! > \(files[1]))
                echo $$ > \(files[2]); \(rest)
                """, limit: .seconds(limit))
            #expect(result.end == .tookTooLong(limit: .seconds(limit)))
            #expect(result.problem == "did not end within \(Durations.text(.seconds(limit)))")
            if !files.allSatisfy({ ProcessTable.text($0).hasSuffix("\n") }), limit < 60 { continue }
            #expect(text(result) == "URL\n")
            for file in files { try await isGone(try await pid(in: file)) }
            try await eventually(awaiting: "it is reaped") { helpers.count == 0 }
            return
        }
    }

    @Test("What it leaves in its group is killed when it has ended; what has a session of its own lives on")
    func leavesBehind() async throws {
        let files = [note(), note()]
        let result = await shell(
            """
            sleep 1000 >&- 2>&- & echo $! > \(files[0])
            setsid sh -c 'echo $$ > \(files[1]); exec sleep 1000' >&- 2>&- & while ! test -s \(files[1]); do :; done
            """)
        #expect(result.end == .exited(code: 0))
        try await isGone(try await pid(in: files[0]))
        let daemon = try await pid(in: files[1])
        #expect(ProcessTable.isAlive(daemon))
        kill(daemon, SIGKILL)
    }

    @Test("One that prints too much is told so, long before its time limit") func printsTooMuch() async {
        let flood = await shell("exec yes hunter2", limit: .seconds(1000))
        #expect(flood.end == .printedTooMuch(limit: 1 << 20) && flood.output.count == 1 << 20)
        #expect(flood.problem == "printed more than 1048576 bytes")
        #expect(await shell("head -c 1048577 /dev/zero").end == .printedTooMuch(limit: 1 << 20))
        let all = await shell("head -c 1048576 /dev/zero")
        #expect(all.end == .exited(code: 0) && all.output.count == 1 << 20)
    }

    @Test("Hundreds that flood their outputs are all stopped at their limit, and those between are served")
    func manyFloods() async throws {
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let result = await shell("exec yes", limit: .seconds(1000), outputLimit: 10_000)
                    #expect(result.end == .printedTooMuch(limit: 10_000))
                }
                guard number % 20 == 0 else { continue }
                group.addTask { #expect(await text(shell("echo \(number)", limit: .seconds(1000))) == "\(number)\n") }
            }
        }
        try await eventually(awaiting: "all are reaped") { helpers.count == 0 }
    }

    // MARK: Several at once

    @Test("A start returns while another program hangs; that ends when it is cancelled") func cancelled() async throws {
        let result = Mutex<HelperResult?>(nil)
        let file = note()
        let hanging = helpers.start(
            HelperProgram(["sh", "-c", "trap '' TERM; echo $$ > \(file); sleep 1000"], timeLimit: .seconds(1000))
        ) { new in result.withLock { $0 = new } }
        let running = try await pid(in: file)
        #expect(await shell("echo beside").end == .exited(code: 0))
        #expect(result.withLock { $0 } == nil && ProcessTable.isAlive(running) && helpers.count == 1)
        hanging.cancel()
        try await eventually(awaiting: "the result is there") { result.withLock { $0 } != nil }
        #expect(result.withLock { $0?.end } == .cancelled)
        #expect(!ProcessTable.isAlive(running), "its result goes before its end")
        try await eventually(awaiting: "it is reaped") { helpers.count == 0 }
        // Too late for anything.
        hanging.cancel()
    }

    @Test("More than there may be at once are refused, as long as the others run") func bound() async throws {
        let few = HelperPrograms(most: 2)
        let program = HelperProgram(["sleep", "60"], timeLimit: .seconds(60))
        let running = [few.start(program) { _ in }, few.start(program) { _ in }]
        #expect(few.run(program) == HelperResult(.notStarted(errno: EAGAIN)))
        running[0].cancel()
        try await eventually(awaiting: "there is room") { few.count == 1 }
        #expect(few.run(HelperProgram(["true"], timeLimit: .seconds(60))).end == .exited(code: 0))
        few.end(waitingMilliseconds: 60_000)
    }

    @Test("The end kills all and starts no more") func end() async throws {
        let ending = HelperPrograms()
        let results = Mutex<[HelperResult.End]>([])
        var pids: [pid_t] = []
        for _ in 0..<3 {
            let file = note()
            ending.start(
                HelperProgram(["sh", "-c", "trap '' TERM; echo $$ > \(file); sleep 1000"], timeLimit: .seconds(1000))
            ) { result in results.withLock { $0.append(result.end) } }
            pids.append(try await pid(in: file))
        }
        ending.end(waitingMilliseconds: 60_000)
        #expect(ending.count == 0)
        #expect(!pids.contains(where: ProcessTable.isAlive))
        #expect(results.withLock { $0 } == [.cancelled, .cancelled, .cancelled])
        #expect(ending.run(HelperProgram(["true"], timeLimit: .seconds(60))).end == .cancelled)
    }

    // MARK: Beside the command's tree

    /// What the thread that stands in for the keeper's loop has seen.
    private final class Sightings: Sendable {
        let stolen = Atomic(0)
        let sweepsThatFoundNothing = Atomic(0)
    }

    @Test(
        "Whoever sweeps the command's tree takes no end of a helper program, waits for none and kills none",
        arguments: [true, false])
    func besideTheTree(childrenFiles: Bool) async {
        await #expect(processExitsWith: .success) { [childrenFiles = childrenFiles as Bool] in
            let helpers = HelperPrograms()
            let seen = Sightings()
            helpers.start(HelperProgram(["sleep", "1000"], timeLimit: .seconds(1000))) { _ in }
            try Threads.start("keeper") {
                var tree = Tree(childrenFiles: childrenFiles)
                while true {
                    let progress = tree.sweep { _, _ in seen.stolen.add(1, ordering: .relaxed) }
                    // In the middle of a sweep it would begin again.
                    guard progress != .unfinished else { continue }
                    if progress == .empty { seen.sweepsThatFoundNothing.add(1, ordering: .relaxed) }
                    tree.reap { _, _ in seen.stolen.add(1, ordering: .relaxed) }
                }
            }
            for _ in 0..<100 {
                let program = HelperProgram(["sh", "-c", "echo URL; exit 3"], timeLimit: .seconds(1000))
                let result = helpers.run(program)
                guard result == HelperResult(.exited(code: 3), output: Array("URL\n".utf8)) else { exit(9) }
            }
            let before = seen.sweepsThatFoundNothing.load(ordering: .relaxed)
            try eventually("a sweep finds nothing") {
                seen.sweepsThatFoundNothing.load(ordering: .relaxed) > before + 1
            }
            guard seen.stolen.load(ordering: .relaxed) == 0 else { exit(10) }
            // The one that hangs.
            guard helpers.count == 1 else { exit(11) }
            helpers.end(waitingMilliseconds: 60_000)
            exit(helpers.count == 0 ? 0 : 12)
        }
    }
}
