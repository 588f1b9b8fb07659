// What is due for people and for speed only: the registry, the history, waking the others. It is sent when the session
// has nothing better to do, and may fail or be lost without touching the lease.

import Clock

/// Auxiliary statements that wait for an idle session.
struct AuxiliaryQueue: Hashable, Sendable {
    /// When to renew the entry in the registry.
    var registerAt: Instant
    /// Nothing is sent before: the last one failed or cost the session (somebody holds a lock on those tables).
    private(set) var pausedUntil: Instant?
    private var waiting: [Auxiliary] = []

    init(registerAt: Instant) { self.registerAt = registerAt }

    /// Appends; forgets the oldest when a database that refuses everything lets them pile up.
    mutating func add(_ statement: Auxiliary) {
        waiting.append(statement)
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

    mutating func next() -> Auxiliary? { waiting.isEmpty ? nil : waiting.removeFirst() }

    var isEmpty: Bool { waiting.isEmpty }
}
