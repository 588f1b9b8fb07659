// R2: what is subtracted from every life because this machine is late. A guard that gets the processor late kills
// late, and a tree that gets little processor time dies slowly. Both are measured, and both are subtracted from what
// a renewal grants. So the margin is left for its own purpose. Giving a lease up early is correct. Two children are
// not.

import Clock
import Orders

extension Strain {
    /// The processor time for ending one process or thread.
    private static let microsecondsPerTask = 500.0
    /// The processor time for freeing a megabyte of their memory.
    private static let microsecondsPerMegabyte = 100.0
    /// Beyond this, in microseconds, no TTL is long enough anyway.
    private static let longestKilling = 3_600_000_000.0

    /// How long the kernel takes to end everything that is there, once it is told to. This work runs in the tree's
    /// own share of the processor. Measured: 0.4 ms per process and 0.07 to 0.1 ms per megabyte.
    public var killing: Duration {
        guard processors > 0 else { return .zero }
        let work =
            Double(max(tasks, 0)) * Self.microsecondsPerTask
            + Double(max(memory, 0)) / 1_000_000 * Self.microsecondsPerMegabyte
        return .microseconds(Int64(min(work * 1000 / Double(processors), Self.longestKilling)))
    }
}

/// The lateness within the last `Timing.latenessWindow`, from the guard's timers and from how long its answers take.
struct Lateness: Hashable, Sendable {
    private struct Sample: Hashable, Sendable {
        let at: Instant
        let duration: Duration
    }

    /// In order of time, each smaller than the one before. A sample is dropped as soon as a later one is at least as
    /// large. So the first is the worst.
    private var samples: [Sample] = []
    /// The guard's latest report.
    private(set) var strain = Strain()
    /// How long the guard's last answer took.
    private(set) var lastAnswer = Duration.zero

    mutating func note(_ strain: Strain, at now: Instant, timing: Timing) {
        self.strain = strain
        note(strain.lateness, at: now, timing: timing)
    }

    mutating func noteAnswer(after duration: Duration, at now: Instant, timing: Timing) {
        lastAnswer = duration
        note(duration, at: now, timing: timing)
    }

    private mutating func note(_ duration: Duration, at now: Instant, timing: Timing) {
        forget(at: now, timing: timing)
        while let last = samples.last, last.duration <= duration { samples.removeLast() }
        // Bounded. When the list is full, the smallest sample counts as if it had happened now.
        var sample = Sample(at: now, duration: duration)
        if samples.count == 64 { sample = Sample(at: now, duration: samples.removeLast().duration) }
        samples.append(sample)
    }

    private mutating func forget(at now: Instant, timing: Timing) {
        while let first = samples.first, now.since(first.at) > timing.latenessWindow { samples.removeFirst() }
    }

    /// The worst lateness within the window.
    func worst(at now: Instant, timing: Timing) -> Duration {
        samples.first { now.since($0.at) <= timing.latenessWindow }?.duration ?? .zero
    }

    /// How much later than its deadline a tree would be dead, as far as is known.
    func total(at now: Instant, timing: Timing) -> Duration { worst(at: now, timing: timing) + strain.killing }

    /// The worst that is remembered, without a look at the clock.
    var worstRemembered: Duration { samples.first?.duration ?? .zero }
}

extension LeaseMachine {
    /// Until when a renewal that was sent at `sentAt` lets the child live, as far as is known now (R2). The measured
    /// lateness is subtracted more than once, because the next one may be worse.
    func deadline(sentAt: Instant, at now: Instant) -> Instant {
        sentAt + (timing.life - lateness.total(at: now, timing: timing) * Timing.latenessFactor)
    }

    /// Whether the lateness is large enough for a warning.
    func isLate(at now: Instant) -> Bool {
        lateness.total(at: now, timing: timing) > timing.tellingLateness
    }

    /// Whether the lateness is too large: no child may be started, and a running one is given up.
    func isStarved(at now: Instant) -> Bool {
        lateness.total(at: now, timing: timing) > timing.bearableLateness
    }

    /// Whether a lease that is claimed now could be held, as far as is known. A sidecar that claims and loses at once
    /// keeps others out.
    var canHold: Bool { lateness.worstRemembered + lateness.strain.killing <= timing.bearableLateness }

    mutating func strained(_ strain: Strain, at now: Instant, _ effects: inout [Action]) {
        lateness.note(strain, at: now, timing: timing)
        giveUpIfStarved(at: now, &effects)
    }

    mutating func answered(after duration: Duration, at now: Instant, _ effects: inout [Action]) {
        lateness.noteAnswer(after: duration, at: now, timing: timing)
        regrant(at: now, &effects)
        giveUpIfStarved(at: now, &effects)
    }

    /// Shortens a life that was granted before the guard was known to be this late.
    private mutating func regrant(at now: Instant, _ effects: inout [Action]) {
        guard let leadership, case .held = leadership.standing else { return }
        if isLate(at: now) { reportOnce(.starving, .starving(shortage(at: now)), &effects) }
        let deadline = deadline(sentAt: leadership.grantedAt, at: now)
        if deadline < leadership.deadline { grant(until: deadline, at: now, &effects) }
    }

    func shortage(at now: Instant) -> Shortage {
        Shortage(
            lateness: lateness.worst(at: now, timing: timing), strain: lateness.strain,
            ttl: timing.ttl)
    }
}
