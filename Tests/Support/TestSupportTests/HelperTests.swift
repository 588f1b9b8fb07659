// The programs that stand in for a crowded machine and for a debugger: they must hold what they promise to hold, and let go
// of it whatever becomes of them.

import Clock
import Foundation
import TestSupport
import Testing

@Suite struct HelperTests {
    /// Its output goes to a file of its own, which is removed with the directory.
    private func start(_ words: [String], in directory: String) throws -> SpawnedProcess {
        try SpawnedProcess(
            ["\(builtProducts)/\(words[0])"] + words.dropFirst(), environment: [:],
            output: "\(directory)/\(UUID().uuidString)")
    }

    private func isDead(_ pid: pid_t) -> Bool { processState(pid).map { "ZX".contains($0) } ?? true }

    @Test(arguments: [SIGTERM, SIGKILL]) func aCrowdIsThereAndEndsWithItsMaker(number: Int32) async throws {
        try await onOwnThread {
            let directory = try makeTemporaryDirectory("crowd")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let crowd = try start(["crowd", "50"], in: directory)
            try eventually("the crowd is there") { crowd.output.contains("ready 50") }
            let pids = Set(crowd.output.split(separator: "\n").compactMap { pid_t($0) })
            #expect(pids.count == 50)
            #expect(Set(ProcessTable.children(of: crowd.pid).map(\.pid)) == pids)
            crowd.signal(number)
            #expect(try crowd.waitForExit() == (number == SIGTERM ? .code(0) : .signal(Int(SIGKILL))))
            try eventually("nobody is left") { pids.allSatisfy(isDead) }
        }
    }

    private static let mayTrace = (try? run([builtProducts + "/tracer"])) != nil

    /// As strace does, or gdb: where the tracer asked for a stop at the exit not even SIGKILL ends what it holds.
    @Test(.enabled(if: HelperTests.mayTrace, "ptrace(2) is not permitted here"), arguments: ["strace", "gdb"])
    func whatATracerHoldsIsNotGoneBeforeItLetsGo(how: String) async throws {
        try await onOwnThread {
            let directory = try makeTemporaryDirectory("tracer")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let held = try SpawnedProcess(["sleep", "60"], environment: [:], output: directory + "/held")
            let tracer = try start(["tracer", "\(held.pid)", how], in: directory)
            // By its own word, too: a tracer that has not yet seen the stop would end with what it traces.
            try eventually("it is held") { processState(held.pid) == "t" && tracer.output.contains("held") }
            held.signal(SIGKILL)
            if how == "strace" {
                // The process goes from one stop into another, at its exit: where that was not asked for it is a zombie after a
                // moment.
                var looks = 0
                try eventually("it is looked at twenty times") {
                    #expect(processState(held.pid) != "Z")
                    looks += 1
                    return looks == 20
                }
            } else {
                try eventually("it has ended") { processState(held.pid) == "Z" }
            }
            #expect(held.exit == nil, "its parent learns of nothing")
            tracer.signal(SIGKILL)
            #expect(try held.waitForExit() == .signal(Int(SIGKILL)))
        }
    }

    @Test func whatATracerLetsGoGoesOn() async throws {
        try await onOwnThread {
            let directory = try makeTemporaryDirectory("tracer")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let held = try SpawnedProcess(["sleep", "60"], environment: [:], output: directory + "/held")
            let tracer = try start(["tracer", "\(held.pid)", "strace"], in: directory)
            try eventually("it is held") { processState(held.pid) == "t" || tracer.exit != nil }
            tracer.signal(SIGKILL)
            _ = try tracer.waitForExit()
            try eventually("it goes on") { processState(held.pid) == "S" }
            #expect(!isDead(held.pid))
        }
    }
}

@Suite struct StallWitnessTests {
    /// A process that is ready to run and is not let run counts as a machine that stood still.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/proc/self/schedstat"), "this kernel counts no waiting"))
    func whoWaitsForAProcessorIsSeen() async throws {
        try await onOwnThread {
            let directory = try makeTemporaryDirectory("witness")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let busy = "perl -e '1 while 1'"
            // Four of the least priority on one processor: each waits for three quarters of the time.
            let rivals = try (1...4).map {
                try SpawnedProcess(
                    ["/bin/sh", "-c", "exec taskset -c 0 nice -n 19 \(busy)"],
                    environment: SidecarProcess.cleanEnvironment, output: "\(directory)/\($0)")
            }
            defer { for rival in rivals { rival.signal(SIGKILL) } }
            let witness = StallWitness()
            defer { witness.end() }
            let began = BootClock.now()
            witness.watch(rivals[0].pid)
            try eventually("it is seen to wait") {
                witness.stalled(longerThan: .milliseconds(500), during: began...BootClock.now())
            }
        }
    }
}
