// A schedule in reality: a real guard, forked by this process, with real commands; and what comes of it. This process stands in
// for the keeper and looks at the machine's processes for itself, by a mark that they all inherit, whatever the guard says.
//
// It measures how long the machine kept anybody waiting, too: what was told while it stood still proves nothing.

import CLinux
import Clock
import Glibc
import Guard
import Orders
import Tracer

@testable import GuardModel

final class RealRun {
    private let schedule: Schedule
    private let timing: SlotTiming
    private let guardian: GuardProcess
    private let commands: Int
    private let expected: Int
    private let mark: String
    private var origin = BootClock.now()
    private(set) var story = Story()
    private var reports: [UInt8] = []
    private var isChannelOpen = true
    private var isReady = false
    private var hasEnded = false
    private var lastOrdered: StartID?
    private var isCatching = false
    private var held: pid_t?
    /// What the schedule asks for cannot be done here.
    private(set) var mayNotTrace = false
    /// The longest that this process was not let run, or did not come to the next thing to do in time.
    private(set) var stall = Time(0)

    /// - Parameters:
    ///   - commands: where the commands begin among this process's arguments.
    ///   - expected: how many events the model tells.
    init(
        _ schedule: Schedule, _ timing: SlotTiming, _ guardian: GuardProcess, commands: Int, expected: Int, mark: String
    ) {
        self.schedule = schedule
        self.timing = timing
        self.guardian = guardian
        self.commands = commands
        self.expected = expected
        self.mark = mark
    }

    /// Slack for what must come some time: only a guard that never does it has not done it by then.
    private let patience = Duration.seconds(15)

    func act() -> Instant {
        let limit = BootClock.now() + patience
        while !isReady, BootClock.now() < limit { listen(until: BootClock.now() + .milliseconds(5)) }
        origin = BootClock.now() + .milliseconds(20)
        story = Story()
        if isReady { story.add(.answer(.ready), at: 0) }
        for (slot, steps) in schedule.slots.enumerated() {
            listen(until: begin(slot))
            note(lateness: now - timing.begin(ofSlot: slot))
            look(slot)
            catchNone()
            for step in steps { take(step) }
            note(lateness: now - timing.begin(ofSlot: slot))
        }
        listen(until: begin(schedule.slots.count))
        look(schedule.slots.count)
        // What is late has its time. What is too much has one more slot.
        let end = BootClock.now() + patience
        while story.entries.count < expected || !hasEnded, BootClock.now() < end {
            listen(until: BootClock.now() + .milliseconds(5))
        }
        listen(until: BootClock.now() + .nanoseconds(timing.slot))
        if !hasEnded { noteWaiting() }
        clearUp()
        return origin
    }

    private func begin(_ slot: Int) -> Instant { origin + .nanoseconds(timing.begin(ofSlot: slot)) }
    private var now: Time { BootClock.now().since(origin).nanoseconds }
    private func tell(_ event: Event) { story.add(event, at: now) }

    // MARK: What is done

    private func take(_ step: Step) {
        if let order = step.order(schedule, timing, origin: origin, commands: commands) {
            // To a guard that is gone, or deaf, nothing can be said; the model hears no answer then.
            _ = guardian.send(order)
            if case .start(let generation, _, _, _) = order { lastOrdered = generation }
            return
        }
        switch step {
        case .nonsense(let bytes): _ = send(guardian.channel, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        case .hold:
            mayNotTrace = tracer_seize(guardian.pid) != 0
            isCatching = !mayNotTrace
        case .release:
            if let held { tracer_release(held) }
            held = nil
        case .stopGuard: signalGuard(SIGSTOP)
        case .continueGuard: signalGuard(SIGCONT)
        case .killGuard: signalGuard(SIGKILL)
        case .closeChannel(entirely: true):
            hear()
            guardian.close()
            isChannelOpen = false
        case .closeChannel(entirely: false): shutdown(guardian.channel, Int32(SHUT_WR))
        default: break
        }
    }

    private func catchChild() {
        if isCatching {
            let child = tracer_caught(guardian.pid)
            if child > 0 { (held, isCatching) = (child, false) }
        }
        if let child = held, tracer_is_dead(child) != 0 { held = nil }
    }

    /// A child is only held if it came in the slot that was meant.
    private func catchNone() {
        guard isCatching else { return }
        isCatching = false
        let child = tracer_let_go(guardian.pid)
        if child > 0 { held = child }
    }

    private func signalGuard(_ number: Int32) { if !hasEnded { kill(guardian.pid, number) } }

    // MARK: What is heard

    private func listen(until end: Instant) {
        while true {
            let before = BootClock.now()
            let rest = end.since(before).nanoseconds
            guard rest > 0 else { return }
            // Not longer, so that a machine that stands still is noticed.
            let wait = min((rest - 1) / millisecond + 1, 5)
            var set = [
                pollfd(fd: isChannelOpen ? guardian.channel : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
            ]
            poll(&set, 2, Int32(wait))
            note(lateness: BootClock.now().since(before).nanoseconds - wait * millisecond)
            if set[1].revents != 0 { readReports() }
            if set[0].revents != 0 { hear() }
            reapGuard()
            catchChild()
        }
    }

    private func hear() {
        while isChannelOpen {
            switch guardian.receive() {
            case .nothing: return
            case .closed: isChannelOpen = false
            case .nonsense: tell(.wrong("the guard says nonsense"))
            case .answer(.ready) where !isReady: isReady = true
            // For people: the model does not count who was killed.
            case .answer(.leftBehind), .answer(.surviving): break
            case .answer(let answer):
                tell(.answer(answer))
                check(answer)
            }
        }
    }

    private func check(_ answer: Answer) {
        switch answer {
        case .started(let generation, let pid):
            if pid <= 1 || pid == guardian.pid || pid == getpid() {
                tell(.wrong("\(generation.rawValue) is started as \(pid)"))
            }
        case .empty(let generation):
            var own = [Sighting.command(generation.rawValue), Sighting.left(generation.rawValue)]
            // Else it can be the child of a later start, which was ordered already.
            if lastOrdered == generation { own.append(Sighting.child) }
            let alive = living().filter { own.contains($0) }
            if !alive.isEmpty { tell(.wrong("\(generation.rawValue) is empty: \(Sighting.text(alive))")) }
        default: break
        }
    }

    /// What the commands say: their start and when it began.
    private func readReports() {
        var part = [UInt8](repeating: 0, count: 4096)
        let count = read(STDIN_FILENO, &part, part.count)
        guard count > 0 else { return }
        reports += part[..<count]
        while let end = reports.firstIndex(of: 10) {
            let words = String(decoding: reports[..<end], as: UTF8.self).split(separator: " ")
            reports.removeSubrange(...end)
            guard words.count == 2, let number = UInt64(words[0]) else { continue }
            tell(.ran(number))
        }
    }

    private func reapGuard() {
        var status: Int32 = 0
        var information = siginfo_t()
        guard !hasEnded, waitid(P_PID, id_t(guardian.pid), &information, WEXITED | WNOHANG | WNOWAIT) == 0,
            information.si_signo == SIGCHLD,
            // A traced one tells its stops, too.
            [CLD_EXITED, CLD_KILLED, CLD_DUMPED].contains(Int(information.si_code))
        else { return }
        // Of a dead one, it can still be read.
        noteWaiting()
        guard waitpid(guardian.pid, &status, WNOHANG) == guardian.pid else { return }
        hasEnded = true
        hear()
        tell(.ended(status))
    }

    // MARK: What is seen

    private func look(_ slot: Int) {
        let found = sighted()
        tell(.look(slot, Sighting.text(found.map(\.text))))
        // Whoever kills does so two margins before a look, or more: a command that has not died of it was not let run. (What
        // the kernel counts of its waiting, it counts when that is over.) A child before its exec may be held by us.
        if found.contains(where: { $0.isKilled && $0.text != Sighting.child }) { note(lateness: 2 * timing.margin) }
    }

    private func living() -> [String] { sighted().map(\.text) }

    private func sighted() -> [(text: String, isKilled: Bool)] {
        Processes.marked(mark).compactMap { process in
            if process.pid == getpid() || process.pid == guardian.pid { return nil }
            let text =
                switch process.name {
                case "actor": Sighting.command(process.start ?? 0)
                case "left": Sighting.left(process.start ?? 0)
                default: process.start.map { Sighting.command($0) } ?? Sighting.child
                }
            return (text, process.isKilled)
        }
    }

    // MARK: How the machine is

    private func note(lateness: Time) { stall = max(stall, lateness) }

    /// How long the guard was ready to run and did not, all together (proc(5), schedstat).
    private func noteWaiting() {
        let words = String(decoding: Processes.contents("/proc/\(guardian.pid)/schedstat"), as: UTF8.self)
            .split(whereSeparator: \.isWhitespace)
        if words.count > 1, let waited = Time(words[1]) { note(lateness: waited) }
    }

    // MARK: The end

    /// What a keeper does with the heritage of its guard.
    private func clearUp() {
        if !hasEnded { kill(guardian.pid, SIGKILL) }
        var tree = Tree()
        let limit = BootClock.now() + patience
        while tree.sweep(reaped: { _, _ in }) != .empty {
            guard BootClock.now() < limit else { return tell(.wrong("the sweep finds no end")) }
            usleep(1000)
        }
        let alive = living()
        if !alive.isEmpty { tell(.wrong("after the sweep: \(Sighting.text(alive))")) }
    }
}

/// The machine's processes, seen independently of the code under test.
enum Processes {
    struct Marked {
        let pid: pid_t
        let name: String
        /// Of which start it is.
        let start: UInt64?
        /// SIGKILL waits for it to run, or it is dead by now.
        let isKilled: Bool
    }

    /// All that carry the mark in their environment; a zombie has none.
    static func marked(_ mark: String) -> [Marked] {
        pids().compactMap { pid in
            let environment = String(decoding: contents("/proc/\(pid)/environ"), as: UTF8.self).split(separator: "\0")
            guard environment.contains(mark[...]) else { return nil }
            let start = environment.first { $0.hasPrefix("ACTOR_START=") }
            let name = String(decoding: contents("/proc/\(pid)/comm"), as: UTF8.self)
            return Marked(
                pid: pid, name: String(name.prefix { $0 != "\n" }),
                start: start.flatMap { UInt64($0.dropFirst("ACTOR_START=".count)) }, isKilled: isKilled(pid))
        }
    }

    private static func isKilled(_ pid: pid_t) -> Bool {
        let status = String(decoding: contents("/proc/\(pid)/status"), as: UTF8.self).split(separator: "\n")
        func value(_ name: String) -> Substring? {
            status.first { $0.hasPrefix(name + ":") }?.split(whereSeparator: \.isWhitespace).dropFirst().first
        }
        guard let state = value("State"), !["Z", "X"].contains(state) else { return true }
        return ["SigPnd", "ShdPnd"].contains { name in
            value(name).flatMap { UInt64($0, radix: 16) }.map { $0 >> UInt64(SIGKILL - 1) & 1 == 1 } ?? false
        }
    }

    private static func pids() -> [pid_t] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var pids: [pid_t] = []
        while let entry = readdir(directory) {
            let pid = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { atoi($0) }
            }
            if pid > 0 { pids.append(pid) }
        }
        return pids
    }

    static func contents(_ path: String) -> [UInt8] {
        let file = clinux_open(path, O_RDONLY)
        guard file >= 0 else { return [] }
        defer { close(file) }
        return [UInt8](unsafeUninitializedCapacity: 32768) { buffer, count in
            count = max(0, read(file, buffer.baseAddress, buffer.count))
        }
    }
}
