// The states of the machine. Each has exactly the data that makes sense in it: a standby has no tree, and a leader
// has no watch. So a combination that makes no sense cannot be expressed.

import Clock
import Orders

/// The one session with the database.
enum Link: Hashable, Sendable {
    case down(retryAt: Instant, failures: Int)
    case opening(SessionID, failures: Int)
    case idle(SessionID)
    /// One statement is under way. `sentAt` was read just before it was sent (R2).
    case busy(SessionID, Statement, sentAt: Instant)

    /// The session that exists or is being opened.
    var session: SessionID? {
        switch self {
        case .down: nil
        case .opening(let id, _), .idle(let id), .busy(let id, _, _): id
        }
    }
}

/// `indirect`, because it is copied at every event and changed at few.
indirect enum Role: Hashable, Sendable {
    case standby(Standby)
    case leading(Leadership)
    /// The lease is settled. What is left is optional and ends at `by`: leaving the list of members.
    case leaving(Exit, by: Instant)
    case ended
}

/// Not holding the lease, no child anywhere.
struct Standby: Hashable, Sendable {
    /// What the standby does next with an idle session.
    enum Intention: Hashable, Sendable {
        /// Poll at that time, or claim earlier when the watch allows it.
        case observe(at: Instant)
        case create
        case terminateHolder(StrangerDemand)
        /// Claim without the lock (R4).
        case claimUnlocked
        case resumeOwn(Epoch)
        case unlock
    }

    var intention: Intention
    var watch: Watch?
    /// No claim before this instant: the command failed too often, or this machine was too late.
    var coolsUntil: Instant?
    /// No claim before this instant: a claim has just failed.
    var claimPausesUntil: Instant?
    /// The last claim found the lock busy. If the record is still expired, its holder is in the way.
    var lockWasTried = false
    /// Since when claims over this record have found it busy.
    var lockBusySince: Instant?
    /// Since when the lock has kept us from our own record (R9).
    var ownBusySince: Instant?

    /// Nothing seen yet.
    static func fresh(at now: Instant, coolsUntil: Instant? = nil) -> Standby {
        Standby(
            intention: .observe(at: now), watch: nil, coolsUntil: coolsUntil, claimPausesUntil: nil)
    }
}

/// Holding the lease, or having lost it while the tree is not known to be empty.
struct Leadership: Hashable, Sendable {
    let epoch: Epoch
    var beat: Int64
    /// When the last successful claim or renewal was sent (R2).
    var grantedAt: Instant
    /// Until when the child may live: its life counted from `grantedAt`, less the lateness that is known by now (R2).
    var deadline: Instant
    var renewAt: Instant
    /// The session that last claimed or renewed, and so holds the lock; nil when it broke.
    var holds: SessionID?
    var standing: Standing
    var tree: Tree

    /// Whether the leadership is to end and the tree is known to be empty (R7).
    var mayBeReleased: Bool {
        if case .held(.windDown) = standing, case .none = tree { true } else { false }
    }
}

enum Standing: Hashable, Sendable {
    case held(Purpose)
    /// No renewal any more; session and lock are kept until the tree is empty (R5).
    case lost(Loss, then: Afterwards)
    /// The one release of this epoch is under way (R7).
    case releasing(Afterwards)
}

extension Standing {
    /// Whether the sidecar exits when the tree is empty and the lease is settled.
    var endsInExit: Bool {
        switch self {
        case .held(.windDown(.exit)), .lost(_, then: .exit), .releasing(.exit): true
        case .held, .lost, .releasing: false
        }
    }
}

enum Purpose: Hashable, Sendable {
    case run
    case windDown(Afterwards)
}

/// What follows the end of a leadership.
enum Afterwards: Hashable, Sendable {
    case standBy
    case coolDown
    /// As after a cool-down, but because the processor came too late.
    case recover
    case exit(Exit)
}

/// What the guard has below it, as far as the keeper knows.
enum Tree: Hashable, Sendable {
    /// `since`: when the last tree was known to be empty. Before the first start: when the lease was claimed.
    case none(startAt: Instant, since: Instant)
    /// The command's exec must have happened by then.
    case starting(StartID, by: Instant)
    case running(StartID)
    case draining(StartID, killAt: Instant)
    case dying(StartID, Outcome)
    /// The guard is dead; the keeper kills what is left.
    case fallen

    /// Whether the tree was told to end.
    var isEnding: Bool {
        switch self {
        case .draining, .dying(_, .killed): true
        case .none, .starting, .running, .dying, .fallen: false
        }
    }

    /// The start whose child may be extended, signalled or killed: it is not known to be ending for good.
    var living: StartID? {
        switch self {
        case .starting(let id, _), .running(let id), .draining(let id, _): id
        case .none, .dying, .fallen: nil
        }
    }

    /// The start that a living guard would answer for.
    var start: StartID? {
        switch self {
        case .none, .fallen: nil
        case .starting(let id, _), .running(let id), .draining(let id, _), .dying(let id, _): id
        }
    }
}

/// Why a tree died.
enum Outcome: Hashable, Sendable {
    case exited(ChildExit)
    case cannotExecute(errno: Int32)
    /// By the deadline, or because it was told to.
    case killed
}

/// The guard, as far as its answers tell.
enum Guardian: Hashable, Sendable {
    /// No question has been sent yet.
    case unasked
    /// The last question was answered, at that instant.
    case answered(at: Instant)
    /// A question was sent at `since`. If it is unanswered at `by`, the guard gets SIGKILL (R12).
    case asked(UInt64, since: Instant, by: Instant)
    /// The guard got SIGKILL, which may take long to work. The keeper kills what is below the guard.
    case condemned
    /// Dead. The keeper has inherited the guard's processes and kills them.
    case fallen
    /// Dead, or unable to ever run again. Nothing is left of its tree.
    case gone

    /// Whether no answer is outstanding.
    var hasAnswered: Bool { if case .answered = self { true } else { false } }
}

/// How fast the sidecar stops.
enum Stopping: Int, Comparable, Sendable {
    case drain
    case now

    static func < (left: Stopping, right: Stopping) -> Bool { left.rawValue < right.rawValue }
}
