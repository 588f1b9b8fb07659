// What tells the outside something, and what all of that is fed: pictures of how things are, and announcements of what
// happened. Both are typed. Words are made by the outlet that shows them.

import Clock
import Lease
import Metastore

/// How things are at one instant.
package struct Picture: Equatable, Sendable {
    package var snapshot: Snapshot
    /// When it was taken.
    package var at: Instant

    package init(_ snapshot: Snapshot, at: Instant) {
        self.snapshot = snapshot
        self.at = at
    }
}

/// Something that happened.
package enum Announcement: Equatable, Sendable {
    /// What the machine did or saw, with its epoch.
    case notice(Notice, Epoch?)
    /// The session with the database is usable.
    case connected(peer: String, serverVersion: Int, encrypted: Bool)
    /// R8: sessions of an earlier child that this role may not terminate.
    case unfenced(Unfenced, SessionFacts)
    case credentialsChanged(origin: String)
    case credentialsProblem(String)
    case listenerProblem(String)
    /// A signal asks to stop; its name.
    case askedToStop(signal: String)
    /// The last of all, when the other outlets are closed: only the log is told.
    case ending(Exit, exitCode: Int32)
}

/// Tells the outside something: a log, a file, later a page, metrics, event hooks. It may fail, and it may hang where
/// it has a thread of its own (`OutletThread`). Nothing is ever asked back.
package protocol Outlet: Sendable {
    mutating func take(_ picture: Picture)
    mutating func take(_ announcement: Announcement, at now: Instant)
    /// So many announcements were dropped before the next one, because they came faster than they were taken.
    mutating func missed(_ count: Int)
    /// The sidecar ends: the last call.
    mutating func close()
}

extension Outlet {
    package mutating func take(_ picture: Picture) {}
    package mutating func take(_ announcement: Announcement, at now: Instant) {}
    package mutating func missed(_ count: Int) {}
    package mutating func close() {}
}
