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
    private var waiting: [Auxiliary] = []

    init(registerAt: Instant) { self.registerAt = registerAt }

    /// Appends. If a database refuses everything and statements pile up, the oldest is dropped.
    mutating func add(_ statement: Auxiliary) {
        waiting.append(statement)
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

    mutating func next() -> Auxiliary? { waiting.isEmpty ? nil : waiting.removeFirst() }

    var isEmpty: Bool { waiting.isEmpty }
}
