// The words for the end of a leadership in its history, where `sidecar lease` shows them.

import Lease

extension EndReason {
    /// For people.
    var text: String {
        switch self {
        case .lost(.deadlinePassed): "lost: no renewal succeeded before the deadline"
        case .lost(.recordTaken): "lost: the record was changed or removed"
        case .lost(.sessionLost): "lost: the session with the database broke"
        case .released(.plain): "released"
        case .released(.childFailed): "released: the command failed too often"
        case .released(.starved): "released: too little processor time"
        case .released(.exit(.stopped)): "released: stopped"
        case .released(.exit(.childEnded)): "released: the command ended"
        case .released(.exit(.cannotExecute)): "released: the command cannot be executed"
        case .released(.exit(.guardLost)): "released: the guard process was lost"
        case .released(.exit(.loginsRefused)): "released: every login was refused"
        case .released(.exit(.databaseUnusable)): "released: the database cannot be used"
        case .notReleased: "not released: some processes cannot be killed"
        }
    }
}
