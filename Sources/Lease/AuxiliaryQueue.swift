// Statements that serve only people and speed: the registry, the history, waking the standbys. They are sent while
// the session is idle. They may fail or be lost without touching the lease.

import Clock

/// Auxiliary statements that wait for an idle session.
struct AuxiliaryQueue: Hashable, Sendable {
    /// When to renew the entry in the registry.
    var registerAt: Instant
    /// Nothing is sent before this instant. The last statement failed or cost the session (another session holds a
    /// lock on those tables).
    private(set) var pausedUntil: Instant?
    private var waiting: [Waiting] = []

    private struct Waiting: Hashable, Sendable {
        let statement: Auxiliary
        let since: Instant
    }

    init(registerAt: Instant) { self.registerAt = registerAt }

    /// Appends. If a database refuses everything and statements pile up, the oldest is dropped.
    mutating func add(_ statement: Auxiliary, at now: Instant) {
        waiting.append(Waiting(statement: statement, since: now))
        if waiting.count > 8 { waiting.removeFirst() }
    }

    /// The tables for people are in trouble. They are left alone for longer than any watch takes. Otherwise they
    /// could cost the standby its only session again and again (R3).
    mutating func pause(until: Instant) {
        pausedUntil = until
        registerAt = until
    }

    /// Asks for a fresh entry in the registry, unless paused.
    mutating func register(at now: Instant) { registerAt = max(now, pausedUntil ?? now) }

    /// The next statement. It names a past event by its age, so the time that it waited here is added.
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
