// compare-guard: is the simulation's guard a true one? The same random schedules are run through the model, which `simulate`
// believes, and by a real guard with real processes; whatever either tells and the other does not is a failure.
//
// One process a schedule: `Worker`. This one starts them, several at once, and counts.

import ArgumentParser
import CLinux
import Clock
import Glibc

@testable import GuardModel

@main
struct CompareGuard: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare-guard",
        abstract: "The simulation's model of the guard against real guards with real processes.",
        discussion: """
            A schedule during which the machine stood still for too long is run again, slower; when that does not help it is \
            skipped. More than a twentieth of all may not be, or a half where the machine was busy all along. Then the model is \
            broken, one rule at a time, and each loss must be seen. The last line counts schedules, and one for each broken rule.
            """)

    @Option(help: "How many schedules.") var schedules = 400
    @Option(help: "The first seed; without it, a random one.") var seed: UInt64?
    @Option(help: "No new schedules after that many seconds.") var seconds: Int?
    @Option(help: "How many at once; they mostly wait.") var jobs = 32
    @Option(help: "The length of a slot, in milliseconds.") var slot = 150
    @Option(help: "One seed, side by side.") var replay: UInt64?
    @Option(help: "Only a model with this rule broken, which must show; or \"none\".") var flaw: String?
    @Option(help: "Within how many schedules a broken rule must show.") var limit = 1000

    static func main() {
        if let task = Worker.Task(arguments: CommandLine.arguments) { Worker.run(task) }
        main(nil)
    }

    func validate() throws {
        guard schedules > 0, jobs > 0, limit > 0, slot >= 30 else {
            throw ValidationError("numbers must be positive, a slot 30 ms long")
        }
        if let flaw, flaw != "none", GuardFlaw(rawValue: flaw) == nil {
            let names = GuardFlaw.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("no flaw is called \(flaw); there are none, \(names)")
        }
    }

    func run() throws {
        // Where nohup(1) has it ignored, the commands would inherit that, and SIGHUP would not end them.
        signal(SIGHUP, SIG_DFL)
        let processors = Processors()
        if let replay {
            var crew = Crew(slot: slot, flaw: flaw == "none" ? nil : flaw, isVerbose: true, processors)
            crew.add(replay)
            crew.work(atOnce: 1, until: nil)
            print(crew.output)
            crew.summarize()
            if !crew.isGood { throw ExitCode.failure }
            return
        }
        let first = seed ?? UInt64.random(in: 0..<1 << 48)
        var counts = (passed: 0, failed: 0, skipped: 0)
        if flaw == nil || flaw == "none" {
            print("seeds \(first) to \(first + UInt64(schedules) - 1)")
            var crew = Crew(slot: slot, flaw: nil, isVerbose: false, processors)
            for offset in 0..<schedules { crew.add(first + UInt64(offset)) }
            crew.work(atOnce: jobs, until: seconds.map { BootClock.now() + .seconds($0) })
            crew.summarize()
            counts = crew.counted
        }
        // Where nothing can be compared, no loss can be seen.
        let canCompare = counts.passed > 0 || flaw != nil
        for broken in GuardFlaw.allCases where canCompare && (flaw.map { $0 == broken.rawValue } ?? broken.shows) {
            var crew = Crew(slot: slot, flaw: broken.rawValue, isVerbose: false, processors)
            for offset in 0..<limit { crew.add(first + UInt64(offset)) }
            crew.work(atOnce: jobs, until: seconds.map { BootClock.now() + .seconds($0) })
            if let seed = crew.firstDiffering {
                print("ok   \(broken.rawValue) broken: seen in schedule \(seed - first + 1)")
                counts.passed += 1
            } else if crew.isCutShort && processors.wereBusy {
                print("skip \(broken.rawValue) broken: not seen in the time there was, and the machine was busy")
                counts.skipped += 1
            } else {
                print("FAIL \(broken.rawValue) broken: not seen in \(limit) schedules from \(first) on")
                counts.failed += 1
            }
        }
        // With a name: it is scripts/test that closes with the sum of all, in the same words.
        print("guardmodel: \(counts.passed) passed, \(counts.failed) failed, \(counts.skipped) skipped")
        if counts.failed > 0 || counts.passed == 0 { throw ExitCode.failure }
    }
}

extension GuardFlaw {
    /// Whether it shows from outside, in the ways of a schedule: machines do not sleep here, and killing takes less time than
    /// there is between two looks.
    fileprivate var shows: Bool {
        switch self {
        case .noGuardTimer, .extendAfterKill, .noCheckBeforeExec, .relativeDeadlines: true
        case .monotonicTimer, .emptyWithoutDaemons: false
        }
    }
}

/// Runs workers, and adds up what they find.
struct Crew {
    private struct Member {
        let pid: pid_t
        let seed: UInt64
        let attempt: Int
        /// Its slots are longer by that power of two.
        let shift: Int
        let output: Int32
        let mark: String
        let began: Instant
        /// More than the sum of all that its worker has patience for.
        var limit: Instant { began + .seconds(120) }
        var text: [UInt8] = []
    }

    private let slot: Int
    private let flaw: String?
    private let isVerbose: Bool
    private let processors: Processors
    private var pace = Pace()
    private var waiting: [(seed: UInt64, attempt: Int)] = []
    private var members: [Member] = []
    private(set) var output = ""
    private var passed = 0
    private var failed: [UInt64] = []
    /// The first that was seen to differ: not one whose worker failed.
    private(set) var firstDiffering: UInt64?
    private var discarded: [UInt64] = []
    /// Not all schedules were begun.
    private(set) var isCutShort = false
    private var repeated = 0
    private var differed = 0
    private var untraceable = 0
    private var compared = 0
    private var counts: [String: Int] = [:]
    private var took = Duration.zero

    /// So often a schedule is tried, each time with slots twice as long.
    private static let attempts = 4

    init(slot: Int, flaw: String?, isVerbose: Bool, _ processors: Processors) {
        self.processors = processors
        self.slot = slot
        self.flaw = flaw
        self.isVerbose = isVerbose
    }

    mutating func add(_ seed: UInt64) { waiting.append((seed, 0)) }

    var isGood: Bool { failed.isEmpty && !hasTooManyDiscarded && !differsTooOften && passed > 0 }
    /// More than what a busy machine explains: something that goes wrong now and then.
    private var differsTooOften: Bool {
        differed > 1 && differed * (processors.wereBusy ? 10 : 50) > passed + failed.count
    }
    private var hasTooManyDiscarded: Bool {
        discarded.count * (processors.wereBusy ? 2 : 20) > passed + discarded.count
    }

    mutating func work(atOnce jobs: Int, until end: Instant?) {
        let began = BootClock.now()
        while true {
            let isLate = end.map { BootClock.now() >= $0 } ?? false
            // What was begun is tried again for some time.
            let isTooLate = end.map { BootClock.now() >= $0 + .seconds(120) } ?? false
            // Many differences are told as well by a few.
            let isEnough = failed.count >= (flaw == nil ? 5 : 1)
            if isLate || isEnough {
                let count = waiting.count
                waiting.removeAll { $0.attempt == 0 }
                isCutShort = isCutShort || waiting.count < count
            }
            if isTooLate || isEnough {
                discarded += waiting.map(\.seed)
                waiting = []
            }
            while members.count < max(1, jobs >> pace.slower), !waiting.isEmpty { begin(waiting.removeFirst()) }
            if members.isEmpty { break }
            var set = members.map { pollfd(fd: $0.output, events: Int16(POLLIN), revents: 0) }
            poll(&set, nfds_t(set.count), 1000)
            for index in members.indices.reversed() {
                if set[index].revents != 0, !read(index) { finish(members.remove(at: index)) }
            }
            for member in members where BootClock.now() > member.limit { kill(member.pid, SIGKILL) }
        }
        took = BootClock.now().since(began)
    }

    private mutating func begin(_ next: (seed: UInt64, attempt: Int)) {
        var answers: [Int32] = [-1, -1]
        var reports: [Int32] = [-1, -1]
        guard clinux_pipe(&answers, 0) == 0, clinux_pipe(&reports, 0) == 0 else { return fail(next.seed, "no pipe") }
        let shift = max(next.attempt, pace.slower)
        let task = Worker.Task(
            seed: next.seed, slot: slot << shift, flaw: flaw,
            mark: "COMPARE_GUARD=\(next.seed)-\(next.attempt)-\(BootClock.now().nanoseconds)", isVerbose: isVerbose)
        let program = own()
        let line =
            [program] + task.arguments + [
                "--", program.replacingLastComponent(with: "actor"), "/nonexistent/command", "/",
            ]
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        // What the commands say goes back to the worker alone.
        posix_spawn_file_actions_adddup2(&actions, reports[0], STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, reports[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, answers[1], Worker.output)
        var arguments: [UnsafeMutablePointer<CChar>?] = line.map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup(task.mark), strdup("PATH=/usr/bin:/bin"), nil]
        var pid: pid_t = 0
        let result = posix_spawn(&pid, program, &actions, nil, &arguments, &environment)
        for text in arguments + environment { free(text) }
        posix_spawn_file_actions_destroy(&actions)
        for file in [answers[1], reports[0], reports[1]] { close(file) }
        guard result == 0 else {
            close(answers[0])
            return fail(next.seed, "cannot start a worker: errno \(result)")
        }
        members.append(
            Member(
                pid: pid, seed: next.seed, attempt: next.attempt, shift: shift, output: answers[0], mark: task.mark,
                began: BootClock.now()))
    }

    private mutating func read(_ index: Int) -> Bool {
        var part = [UInt8](repeating: 0, count: 65536)
        let count = Glibc.read(members[index].output, &part, part.count)
        if count > 0 { members[index].text += part[..<count] }
        return count > 0 || (count < 0 && errno == EINTR)
    }

    private mutating func finish(_ member: Member) {
        close(member.output)
        var status: Int32 = 0
        waitpid(member.pid, &status, 0)
        // A worker that did not come to its end leaves a guard that kills its tree; unless that is what is broken.
        for process in Processes.marked(member.mark) where status != 0 { kill(process.pid, SIGKILL) }
        let text = String(decoding: member.text, as: UTF8.self)
        output += text
        for line in text.split(separator: "\n") where line.hasPrefix("count ") {
            let words = line.split(separator: " ")
            let number = words.last.flatMap { Int($0) } ?? 0
            compared += number
            counts[words.dropFirst().dropLast().joined(separator: " "), default: 0] += number
        }
        var verdict = Worker.Verdict(rawValue: status >> 8)
        let timing = SlotTiming(slot: Time(slot << member.shift) * millisecond)
        if verdict == .differs || verdict == .broken,
            processors.stoodStill(since: member.began, longerThan: .nanoseconds(timing.margin / 2))
        {
            verdict = .disturbed
        }
        pace.note(verdict == .disturbed)
        switch verdict {
        case .same? where status & 0x7f == 0: passed += 1
        case .disturbed? where status & 0x7f == 0:
            if member.attempt + 1 < Self.attempts {
                repeated += 1
                waiting.insert((member.seed, max(member.attempt + 1, min(member.shift + 1, Self.attempts - 1))), at: 0)
            } else {
                discarded.append(member.seed)
                if !isVerbose, discarded.count <= 3 { print(text) }
            }
        case .untraceable? where status & 0x7f == 0: untraceable += 1
        case .differs? where status & 0x7f == 0 && member.attempt == 0:
            // A process that the scheduler forgot for a slot is not seen by the others: what differs must do so twice.
            differed += 1
            waiting.insert((member.seed, 1), at: 0)
        case .differs? where status & 0x7f == 0 && flaw == nil && member.attempt < Self.attempts - 1:
            // Where a start has to wait for a disk that others keep busy no processor stands still: once more, as slowly as can
            // be. What is wrong is wrong at any speed.
            waiting.insert((member.seed, Self.attempts - 1), at: 0)
        case .differs? where status & 0x7f == 0, .broken? where status & 0x7f == 0:
            if firstDiffering == nil { firstDiffering = member.seed }
            fail(member.seed, isVerbose ? "see above" : text)
        default: fail(member.seed, "the worker came to no end, status \(status)\n\(text)")
        }
    }

    private mutating func fail(_ seed: UInt64, _ why: String) {
        failed.append(seed)
        // A broken model is to differ.
        guard flaw == nil || isVerbose else { return }
        print("FAIL seed \(seed) (compare-guard --replay \(seed)): \(why)")
        // To be seen at once, also in a log.
        fflush(nil)
    }

    var counted: (passed: Int, failed: Int, skipped: Int) {
        (
            passed, failed.count + (hasTooManyDiscarded ? 1 : 0) + (differsTooOften ? 1 : 0),
            untraceable + discarded.count
        )
    }

    func summarize() {
        let all = passed + failed.count + discarded.count
        let seconds = Double(took.milliseconds) / 1000
        print(
            "\(all) schedules in \(Int(seconds)) s (\((Double(all) / max(seconds, 0.001) * 10).rounded() / 10) a second), \(compared) events compared:"
        )
        let kinds = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        print("  " + kinds.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
        print(
            "\(repeated) runs again because the machine stood still, \(discarded.count) schedules skipped for it \(discarded)"
        )
        print("the processors stood still for \(processors.stillShare) % of the time")
        if differed > 0 { print("\(differed) differed at first and were run again, slower") }
        if untraceable > 0 { print("\(untraceable) left out: one process may not trace another here") }
        let busy = processors.wereBusy
        if differsTooOften { print("FAIL more than one in \(busy ? 10 : 50) differed at first") }
        if hasTooManyDiscarded {
            print(
                "FAIL more than \(busy ? "a half is skipped: run it on a machine with less to do" : "a twentieth is skipped")"
            )
        }
    }

    private func own() -> String {
        var path = [UInt8](repeating: 0, count: 4096)
        let count = path.withUnsafeMutableBytes { $0.baseAddress.map { readlink("/proc/self/exe", $0, 4095) } ?? 0 }
        return String(decoding: path.prefix(max(count, 0)), as: UTF8.self)
    }
}

/// Goes slower where the machine cannot keep up: fewer at once, with longer slots.
private struct Pace {
    /// So many times half as many, with slots of twice the length.
    private(set) var slower = 0
    private var runs = 0
    private var disturbed = 0

    mutating func note(_ isDisturbed: Bool) {
        runs += 1
        if isDisturbed { disturbed += 1 }
        guard runs == 32 else { return }
        if disturbed > 8 { slower = min(slower + 1, 2) } else if disturbed == 0 { slower = max(slower - 1, 0) }
        (runs, disturbed) = (0, 0)
    }
}

extension String {
    fileprivate func replacingLastComponent(with name: String) -> String {
        split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") + "/" + name
    }
}
