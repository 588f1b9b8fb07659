// What is due for people and for speed only: the registry, the history, waking the others. It is sent when the session
// has nothing better to do, and may fail or be lost without touching the lease.

import Clock

/// Auxiliary statements that wait for an idle session.
struct AuxiliaryQueue: Hashable, Sendable {
    /// When to renew the entry in the registry.
    var registerAt: Instant
    /// Nothing is sent before: the last one failed or cost the session (somebody holds a lock on those tables).
    private(set) var pausedUntil: Instant?
    private var waiting: [Waiting] = []

    private struct Waiting: Hashable, Sendable {
        let statement: Auxiliary
        let since: Instant
    }

    init(registerAt: Instant) { self.registerAt = registerAt }

    /// Appends; forgets the oldest when a database that refuses everything lets them pile up.
    mutating func add(_ statement: Auxiliary, at now: Instant) {
        waiting.append(Waiting(statement: statement, since: now))
        if waiting.count > 8 { waiting.removeFirst() }
    }

    /// People's tables are in trouble: leave them alone for longer than any watch takes, so that they cannot cost the
    /// standby its one session (R3) over and over.
    mutating func pause(until: Instant) {
        pausedUntil = until
        registerAt = until
    }

    /// Asks for a fresh entry in the registry, unless paused.
    mutating func register(at now: Instant) { registerAt = max(now, pausedUntil ?? now) }

    /// The next one. It tells what is past by its age, and has grown older while it waited.
    mutating func next(at now: Instant) -> Auxiliary? {
        guard !waiting.isEmpty else { return nil }
        let next = waiting.removeFirst()
        let wait = now.since(next.since)
        return switch next.statement {
        case .historyBegin(let epoch, let ago, let previous):
            .historyBegin(epoch, ago: ago + wait, previousRenewedAgo: previous + wait)
        case .historyEnd(let epoch, let reason, let ago): .historyEnd(epoch, reason: reason, ago: ago + wait)
        case .notify, .rehearse, .register, .leave: next.statement
        }
    }

    var isEmpty: Bool { waiting.isEmpty }
}
