// R2: what is kept back of every life because this machine is late. A guard that gets the processor late kills late, and a
// tree that gets little of it dies slowly. Both are measured, and both are subtracted from what a renewal grants, so that the
// margin stays for what it is for. Giving a lease up early is correct; two children are not.

import Clock
import Orders

extension Strain {
    /// What ending one process or thread costs, in time of one processor.
    private static let microsecondsPerTask = 500.0
    /// What giving back a megabyte of their memory costs.
    private static let microsecondsPerMegabyte = 100.0
    /// Beyond this, in microseconds, no TTL is long enough anyway.
    private static let longestKilling = 3_600_000_000.0

    /// How long the kernel is about to take to end all that is there, once it is told to. Ending is work, done in the tree's
    /// own share of the processor: measured were 0.4 ms a process and 0.07 to 0.1 ms a megabyte.
    public var killing: Duration {
        guard processors > 0 else { return .zero }
        let work =
            Double(max(tasks, 0)) * Self.microsecondsPerTask
            + Double(max(memory, 0)) / 1_000_000 * Self.microsecondsPerMegabyte
        return .microseconds(Int64(min(work * 1000 / Double(processors), Self.longestKilling)))
    }
}

/// The lateness of the last while, from the guard's timers and from how long its answers take.
struct Lateness: Hashable, Sendable {
    private struct Sample: Hashable, Sendable {
        let at: Instant
        let duration: Duration
    }

    /// In order of time, each smaller than the one before: what a later and larger one hides is forgotten. So the first
    /// is the worst.
    private var samples: [Sample] = []
    /// The newest word of the guard.
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
        // Bounded, whatever the rhythm: when it is full, the smallest is taken to have happened just now.
        var sample = Sample(at: now, duration: duration)
        if samples.count == 64 { sample = Sample(at: now, duration: samples.removeLast().duration) }
        samples.append(sample)
    }

    private mutating func forget(at now: Instant, timing: Timing) {
        while let first = samples.first, now.since(first.at) > timing.latenessWindow { samples.removeFirst() }
    }

    /// The worst of the last while.
    func worst(at now: Instant, timing: Timing) -> Duration {
        samples.first { now.since($0.at) <= timing.latenessWindow }?.duration ?? .zero
    }

    /// How much later than at its deadline a tree would be dead, as far as is known.
    func total(at now: Instant, timing: Timing) -> Duration { worst(at: now, timing: timing) + strain.killing }

    /// The worst that is remembered, without a look at the clock.
    var worstRemembered: Duration { samples.first?.duration ?? .zero }
}

extension LeaseMachine {
    /// Until when a renewal that was sent at `sentAt` lets the child live, as far as is known now (R2). What was measured is
    /// subtracted more than once, since the next time may be worse.
    func deadline(sentAt: Instant, at now: Instant) -> Instant {
        sentAt + (timing.life - lateness.total(at: now, timing: timing) * Timing.latenessFactor)
    }

    /// Late by so much that people have to know.
    func isLate(at now: Instant) -> Bool {
        lateness.total(at: now, timing: timing) > timing.tellingLateness
    }

    /// Late by more than is bearable: no child may be started, and one that runs is given up.
    func isStarved(at now: Instant) -> Bool {
        lateness.total(at: now, timing: timing) > timing.bearableLateness
    }

    /// Whether a lease that is claimed now could be held: as far as is remembered. Whoever claims and loses at once keeps others
    /// out.
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

    /// A life that was granted before the guard was known to be this late is cut short.
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
