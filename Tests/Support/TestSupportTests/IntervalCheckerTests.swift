// The checker must find every overlap and must not find any where there is none: it is what the fault matrix believes.

import Clock
import Foundation
import TestSupport
import Testing

@Suite struct IntervalCheckerTests {
    /// A folder of logs, written by hand; times in milliseconds.
    private func recording(_ logs: [(name: String, lines: [String])]) throws -> Recording {
        let directory = NSTemporaryDirectory() + "checker-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for log in logs {
            try log.lines.joined(separator: "\n").write(
                toFile: directory + "/" + log.name, atomically: true, encoding: .utf8)
        }
        return Recording(directory: directory)
    }

    private func life(_ main: Int, from start: Int, to end: Int, last: String = "alive", more: [String] = [])
        -> [String]
    {
        let ticks = stride(from: start + 10, to: end, by: 10).map { "alive \($0)000000" }
        return ["main \(main)", "start \(start)000000", "env SIDECAR_NODE=n\(main)"] + ticks + more
            + ["\(last) \(end)000000", ""]
    }

    @Test func treesOneAfterTheOtherDoNotOverlap() throws {
        let recording = try recording([
            ("7-aaaa-bbbb-main-1.log", life(1, from: 0, to: 100)),
            ("7-aaaa-bbbb-daemon-2.log", life(1, from: 20, to: 110)),
            ("8-cccc-dddd-main-1.log", life(1, from: 111, to: 200, last: "stop")),
        ])
        #expect(IntervalChecker.overlaps(in: recording).isEmpty, "\(recording.timeline)")
        #expect(recording.trees.map(\.id.instance) == ["aaaa-bbbb", "cccc-dddd"])
        #expect(recording.trees.map(\.processes.count) == [2, 1])
        #expect(recording.trees.first?.last == Instant(nanoseconds: 110_000_000))
        #expect(recording.trees.last?.main?.stop == Instant(nanoseconds: 200_000_000))
        #expect(recording.nonsense.isEmpty)
    }

    @Test func aDaemonThatOutlivesItsMainProcessOverlapsTheSuccessor() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", life(1, from: 0, to: 100)),
            ("7-aaaa-daemon-2.log", life(1, from: 20, to: 130)),
            ("8-cccc-main-9.log", life(9, from: 125, to: 200)),
        ])
        let overlaps = IntervalChecker.overlaps(in: recording)
        #expect(overlaps.count == 1, "\(recording.timeline)")
        let text = overlaps.first?.description ?? ""
        #expect(text.contains("daemon 2") && text.contains("125000000") && text.contains("130000000"), "\(text)")
    }

    @Test func aRestartInsideAnEpochIsAnotherTree() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", life(1, from: 0, to: 100)),
            ("7-aaaa-main-5.log", life(5, from: 90, to: 150)),
        ])
        #expect(IntervalChecker.overlaps(in: recording).count == 1, "\(recording.timeline)")
    }

    @Test func aLongTreeOverlapsEveryTreeInsideIt() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", life(1, from: 0, to: 500)),
            ("8-bbbb-main-2.log", life(2, from: 100, to: 150)),
            ("9-cccc-main-3.log", life(3, from: 200, to: 250)),
        ])
        #expect(IntervalChecker.overlaps(in: recording).count == 2, "\(recording.timeline)")
        #expect(IntervalChecker.longestGap(in: recording) == nil)
    }

    @Test func onlyWhatIsExcusedAtThatTimeIsExcused() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", life(1, from: 0, to: 130)),
            ("8-bbbb-main-2.log", life(2, from: 100, to: 150, more: ["intruder 105000000 7-aaaa-1"])),
            ("9-cccc-main-3.log", life(3, from: 140, to: 200, more: ["intruder 145000000 8-bbbb-2"])),
        ])
        var asked: [String] = []
        let overlaps = IntervalChecker.overlaps(in: recording) { both in
            let during = [both.during.lowerBound, both.during.upperBound].map { $0.nanoseconds / 1_000_000 }
            asked.append("\(both.one) \(both.other) \(during[0]) \(during[1])")
            return both.one == "7-aaaa-1" && both.during.upperBound <= Instant(nanoseconds: 130_000_000)
        }
        #expect(
            asked.sorted() == [
                "7-aaaa-1 8-bbbb-2 100 130", "7-aaaa-1 8-bbbb-2 105 105", "8-bbbb-2 9-cccc-3 140 150",
                "8-bbbb-2 9-cccc-3 145 145",
            ], "\(asked)")
        #expect(overlaps.count == 2 && overlaps.allSatisfy { $0.first.epoch != "7" }, "\(overlaps)")
    }

    @Test func anIntruderThatIsNotExcusedCountsAfterOneThatIs() throws {
        let recording = try recording([
            ("7-aaaa-stopped-1.log", life(1, from: 0, to: 0)),
            (
                "8-bbbb-main-2.log",
                life(2, from: 100, to: 150, more: ["intruder 105000000 7-aaaa-1", "intruder 115000000 7-aaaa-1"])
            ),
        ])
        func overlaps(excusedUntil end: Int64) -> Int {
            IntervalChecker.overlaps(in: recording) { $0.during.upperBound <= Instant(nanoseconds: end * 1_000_000) }
                .count
        }
        #expect(overlaps(excusedUntil: 110) == 1)
        #expect(overlaps(excusedUntil: 120) == 0)
    }

    @Test func theKernelsWordCountsWhereTheIntervalsAreBlind() throws {
        let recording = try recording([
            ("7-aaaa-stopped-1.log", life(1, from: 0, to: 0)),
            ("8-bbbb-main-2.log", life(2, from: 100, to: 150, more: ["intruder 105000000 7-aaaa-1"])),
        ])
        let overlaps = IntervalChecker.overlaps(in: recording)
        #expect(overlaps.count == 1 && overlaps[0].description.contains("7-aaaa-1"), "\(recording.timeline)")
        let first = recording.trees[0].id
        #expect(IntervalChecker.overlaps(in: recording, exempt: [first]).isEmpty)
    }

    @Test func theGapIsMeasuredFromTheLastSignOfLifeOfAnyTree() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", life(1, from: 0, to: 100)),
            ("8-bbbb-main-2.log", life(2, from: 130, to: 150)),
            ("9-cccc-main-3.log", life(3, from: 160, to: 170)),
        ])
        let gap = try #require(IntervalChecker.longestGap(in: recording))
        #expect(gap.duration == .milliseconds(30) && gap.after.epoch == "7")
    }

    @Test func epochsMustGrowAndBelongToOneInstance() throws {
        func faults(_ second: String) throws -> [String] {
            IntervalChecker.epochsThatDoNotGrow(
                in: try recording([
                    ("10-aaaa-main-1.log", life(1, from: 0, to: 100)), (second, life(2, from: 130, to: 150)),
                ]))
        }
        #expect(try faults("11-bbbb-main-2.log").isEmpty)
        #expect(try faults("10-aaaa-main-2.log").isEmpty, "a restart")
        #expect(try faults("10-bbbb-main-2.log").count == 1, "the same epoch of two instances")
        #expect(try faults("9-bbbb-main-2.log").count == 1, "lower as a number, higher as text")
    }

    @Test func aLineCutShortByAKillIsNoSignOfLifeAndNonsenseIsReported() throws {
        let recording = try recording([
            ("7-aaaa-main-1.log", ["main 1", "start 5", "alive 10", "alive 99"]),
            ("8-aaaa-main-1.log", ["main 1", "start 20", "alife 30", ""]),
            ("9-aaaa-main-1.log", []),
        ])
        #expect(recording.trees.map(\.last.nanoseconds) == [10, 20])
        #expect(recording.nonsense.count == 1)
    }
}
