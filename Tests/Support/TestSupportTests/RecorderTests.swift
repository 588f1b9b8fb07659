// The recorder must leave behind exactly the awkward tree it promises, and witness another tree that is still alive:
// else the fault matrix would be testing tame children.

import Clock
import Foundation
import TestSupport
import Testing

@Suite struct RecorderTests {
    /// A folder and the recorders that were started into it; all are killed at the end.
    private final class Recorders {
        let directory: String
        private var started: [SpawnedProcess] = []

        init() throws { directory = try makeTemporaryDirectory("recorder") }

        func start(_ instance: String, _ options: [String]) throws -> SpawnedProcess {
            let process = try SpawnedProcess(
                [builtProducts + "/recorder", directory] + options,
                environment: [
                    "SIDECAR_EPOCH": "5", "SIDECAR_INSTANCE": instance, "SIDECAR_NODE": "here", "UNIQUE": directory,
                ], output: directory + "/output")
            started.append(process)
            return process
        }

        var alive: [RunningProcess] { ProcessTable.processes(with: ["UNIQUE": directory]) }
        var recording: Recording { Recording(directory: directory) }

        func shapes(_ count: Int) throws {
            try eventually("\(count) processes give signs of life") {
                recording.trees.last?.processes.count == count
            }
        }

        deinit {
            try? eventually("the recorders are gone") {
                for process in alive { kill(process.pid, SIGKILL) }
                return alive.isEmpty
            }
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    private static let all = ["--members", "plain,stubborn,setsid,daemon,stopped,hopping"]

    @Test func everyShapeOutlivesTheMainProcess() async throws {
        try await onOwnThread {
            let recorders = try Recorders()
            let main = try recorders.start("a-b", Self.all)
            try recorders.shapes(7)
            try eventually("the stopped one is stopped") { recorders.alive.contains { $0.state == "T" } }
            main.signal(SIGTERM)
            #expect(try main.waitForExit() == .code(0))
            let tree = try #require(recorders.recording.trees.first)
            #expect(tree.main?.stop != nil && tree.node == "here" && tree.id.instance == "a-b")
            let shapes = Set(tree.processes.map(\.shape))
            #expect(shapes == ["main", "plain", "stubborn", "setsid", "daemon", "stopped", "hopping"])
            #expect(recorders.alive.count >= 5, "the hopping one may be between two pids: \(recorders.alive)")
            let end = tree.last
            try eventually("the others go on") {
                guard let tree = recorders.recording.trees.first else { return false }
                return tree.processes.filter { $0.last > end + .milliseconds(50) }.count == 5
            }
        }
    }

    @Test func stubbornAndDaemonIgnoreTermTheOthersStop() async throws {
        try await onOwnThread {
            let recorders = try Recorders()
            let main = try recorders.start("x", ["--members", "plain,stubborn,setsid,daemon"])
            try recorders.shapes(5)
            for process in recorders.alive where process.pid != main.pid { kill(process.pid, SIGTERM) }
            try eventually("two of them stop") { recorders.alive.count == 3 }
            let stopped = recorders.recording.trees.first?.processes.filter { $0.stop != nil }.map(\.shape)
            #expect(stopped.map { Set($0) } == ["plain", "setsid"])
        }
    }

    @Test func theLockShowsAStoppedProcessOfAnotherTree() async throws {
        try await onOwnThread {
            let recorders = try Recorders()
            let first = try recorders.start("first", ["--members", "stopped"])
            try recorders.shapes(2)
            try eventually("it is stopped") { recorders.alive.contains { $0.state == "T" } }
            first.signal(SIGKILL)
            _ = try first.waitForExit()
            let second = try recorders.start("second", [])
            try recorders.shapes(1)
            try eventually("the second tree notices") { !IntervalChecker.overlaps(in: recorders.recording).isEmpty }
            second.signal(SIGKILL)
            _ = try second.waitForExit()
            for process in recorders.alive { kill(process.pid, SIGKILL) }
            try eventually("all are gone") { recorders.alive.isEmpty }

            _ = try recorders.start("third", [])
            try eventually("the third runs") { recorders.recording.trees.count == 3 }
            let third = recorders.recording.trees.last
            #expect(third?.main?.intruders.isEmpty == true, "\(recorders.recording.timeline)")
        }
    }

    @Test func itEndsAndCatchesSignalsAsItIsTold() async throws {
        try await onOwnThread {
            let recorders = try Recorders()
            let code = try recorders.start("code", ["--exit-after", "50", "--exit-code", "7"])
            #expect(try code.waitForExit() == .code(7))
            let deaf = try recorders.start("deaf", ["--ignore-term"])
            try eventually("it runs") { recorders.recording.trees.count == 2 }
            for number in [SIGUSR1, SIGHUP, SIGTERM] { deaf.signal(number) }
            try eventually("it caught the signals") {
                recorders.recording.trees.last?.main.map { Set($0.signals) } == [1, 10, 15]
            }
            #expect(deaf.exit == nil)
        }
    }
    @Test func busyProcessesComeAndGoWithTheFile() async throws {
        try await onOwnThread {
            let recorders = try Recorders()
            let file = recorders.directory + "/busy"
            let main = try recorders.start("x", ["--busy-while", file])
            try recorders.shapes(1)
            #expect(recorders.alive.map(\.pid) == [main.pid])
            try "3\n".write(toFile: file, atomically: true, encoding: .utf8)
            try recorders.shapes(4)
            try eventually("one in the group of the main process, two in sessions of their own, or the other way round")
            {
                [1, 2].contains(recorders.alive.count { $0.pid != main.pid && $0.group == main.pid })
            }
            try eventually("all three take the processor") {
                recorders.alive.count { $0.pid != main.pid && $0.state == "R" } == 3
            }
            unlink(file)
            try eventually("they are gone and reaped") { ProcessTable.children(of: main.pid).isEmpty }
            #expect(recorders.alive.map(\.pid) == [main.pid] && recorders.recording.nonsense.isEmpty)
        }
    }
}

@Suite struct RecordingReaderTests {
    /// What is read bit by bit is what is read at once, and a line is taken when it is whole.
    @Test func itReadsOnlyWhatIsNewAndWholeLines() throws {
        let directory = try makeTemporaryDirectory("reader")
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let reader = RecordingReader(directory: directory)
        #expect(reader.read().trees.isEmpty)
        let path = directory + "/7-a-b-main-42.log"
        var written = ""
        func add(_ text: String) throws {
            written += text
            try written.write(toFile: path, atomically: false, encoding: .utf8)
        }
        try add("env SIDECAR_NODE=x\nmain 42\n")
        #expect(reader.read().trees.isEmpty, "no sign of life yet")
        try add("start 100\nalive 200\nali")
        #expect(reader.read().trees.first?.last == Instant(nanoseconds: 200))
        try add("ve 300\nsignal 15 310\nwhat is this\nintruder 320 who\nstop 40")
        let tree = try #require(reader.read().trees.first)
        #expect(tree.last == Instant(nanoseconds: 300) && tree.main?.stop == nil)
        try add("0\n")
        for recording in [reader.read(), Recording(directory: directory)] {
            let tree = try #require(recording.trees.first)
            #expect(tree.id.lockName == "7-a-b-42" && tree.node == "x")
            #expect(tree.start == Instant(nanoseconds: 100) && tree.main?.stop == Instant(nanoseconds: 400))
            #expect(tree.main?.signals == [15] && tree.main?.intruders.map(\.who) == ["who"])
            #expect(recording.nonsense == ["7-a-b-main-42.log: what is this"])
        }
    }
}
