// The process of one schedule: forks its guard first of all, has it go through the schedule, asks the model, and says whether
// the two agree.

import Clock
import Glibc
import Guard

@testable import GuardModel

enum Worker {
    /// What it finds is written there; standard input and output are between it and its commands.
    static let output: Int32 = 3

    /// Its exit code.
    enum Verdict: Int32 {
        case same = 0
        case differs = 10
        /// They differ, but the machine stood still for longer than what keeps two events apart.
        case disturbed = 11
        /// It takes ptrace(2), which is not allowed here.
        case untraceable = 12
        /// Reality broke a rule, whatever the model says.
        case broken = 13
    }

    struct Task {
        let seed: UInt64
        /// In milliseconds.
        let slot: Int
        let flaw: String?
        let mark: String
        let isVerbose: Bool

        init(seed: UInt64, slot: Int, flaw: String?, mark: String, isVerbose: Bool) {
            self.seed = seed
            self.slot = slot
            self.flaw = flaw
            self.mark = mark
            self.isVerbose = isVerbose
        }

        init?(arguments: [String]) {
            guard arguments.count > 7, arguments[1] == "worker", let seed = UInt64(arguments[2]),
                let slot = Int(arguments[3])
            else { return nil }
            self.init(
                seed: seed, slot: slot, flaw: arguments[4].isEmpty ? nil : arguments[4], mark: arguments[5],
                isVerbose: arguments[6] == "verbose")
        }

        var arguments: [String] { ["worker", "\(seed)", "\(slot)", flaw ?? "", mark, isVerbose ? "verbose" : "quiet"] }
    }

    /// Where the commands begin: after the program's name, its six words, and "--".
    private static let commands = 8

    static func run(_ task: Task) -> Never {
        guard let guardian = GuardProcess.fork() else {
            perror("cannot fork a guard")
            exit(1)
        }
        // What the guard closes for itself is not to be inherited by anybody else, either.
        let schedule = Schedule(seed: task.seed)
        let timing = SlotTiming(slot: Time(task.slot) * millisecond)
        let model = ModelRun.story(of: schedule, timing, flaw: task.flaw.flatMap { GuardFlaw(rawValue: $0) })
        let run = RealRun(
            schedule, timing, guardian, commands: commands, expected: model.entries.count, mark: task.mark)
        let origin = run.act()
        let comparison = Comparison(model: model, real: run.story, origin: origin)
        let broken = Rules.broken(by: run.story, origin: origin, schedule, timing)
        let differences = comparison.differences + broken
        let isStalled = max(run.stall, comparison.lateness) > timing.margin / 2
        let verdict: Verdict =
            run.mayNotTrace
            ? .untraceable
            : differences.isEmpty
                ? .same : isStalled ? .disturbed : broken.isEmpty ? .differs : .broken
        var text = differences.map { $0 + "\n" }.joined()
        if verdict != .same || task.isVerbose {
            text += Comparison.table(model: model, real: run.story, origin: origin, schedule: schedule, timing) + "\n"
            text +=
                "slot \(task.slot) ms, longest stall \(run.stall / millisecond) ms, latest event \(comparison.lateness / millisecond) ms late: \(verdict)\n"
        }
        if verdict == .same {
            for (kind, count) in comparison.kinds.sorted(by: { $0.key < $1.key }) { text += "count \(kind) \(count)\n" }
        }
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(output, $0.baseAddress, $0.count) }
            if count > 0 { bytes = bytes.dropFirst(count) } else if errno != EINTR { break }
        }
        exit(verdict.rawValue)
    }
}
