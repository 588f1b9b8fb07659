// What is due for people and for speed only: the registry, the history, waking the others. It is sent when the session
// has nothing better to do, and may fail or be lost without touching the lease.

import Clock

/// Auxiliary statements that wait for an idle session.
struct Chores: Equatable, Sendable {
    /// When to renew the entry in the registry.
    var registerAt: Instant
    private var waiting: [Auxiliary] = []

    init(registerAt: Instant) { self.registerAt = registerAt }

    /// Appends; forgets the oldest when a database that refuses everything lets them pile up.
    mutating func add(_ chore: Auxiliary) {
        waiting.append(chore)
        if waiting.count > 8 { waiting.removeFirst() }
    }

    mutating func next() -> Auxiliary? { waiting.isEmpty ? nil : waiting.removeFirst() }

    var isEmpty: Bool { waiting.isEmpty }
}
