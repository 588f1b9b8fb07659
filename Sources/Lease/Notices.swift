// What the machine tells people: notices, and the reasons for what it did. They are decided once, here, typed, each
// with a code that programs may rely on. The words are made where they are shown (log, history, readiness file).

import Clock
import Orders

/// A state change that people want to read, each reported once.
public enum Notice: Hashable, Sendable {
    case sessionLost(reason: String)
    case statementFailed(reason: String)
    /// PostgreSQL would not let this standby lead.
    case refused(RefusalReason)
    case noLongerRefused
    case recordCreated(wait: Duration)
    indirect case standby(Record, wait: Duration)
    case suspended
    indirect case claimed(Epoch, basis: ClaimBasis, from: Predecessor)
    /// The next claim or resume goes without the lock (R4).
    case lockWaived
    case lockHeldByStranger
    case holdersTerminated(Int)
    case sessionsFenced(Int)
    case resumed(Epoch)
    /// R9: its own record, without a child, is led again.
    case tookUpOwnRecord(Epoch)
    case starting(StartID)
    case started(StartID, pid: Int32)
    case cannotExecute(errno: Int32)
    case cannotFork(errno: Int32)
    /// `asked`: the command had been told to end.
    case childExited(ChildExit, asked: Bool)
    case restarting(after: Duration, attempt: Int)
    case gaveUp(cooldown: Duration)
    case draining(grace: Duration)
    case killing(KillReason)
    case treeEmpty
    case lost(Loss)
    case released
    case releaseRefused
    case guardSilent
    case guardLost
    /// The guard does not die, but nothing below it is alive.
    case guardUndead
    /// The command's exec took longer than `LeaseMachine.Settings.startLimit`.
    case startHung(after: Duration)
    case leftBehind(count: Int, [SeenProcess])
    case surviving([SeenProcess])
    /// Asked to stop, the sidecar exits although some processes cannot be killed. It does not release the lease.
    case abandoned
    /// The sidecar exits, because PostgreSQL refused every login for that long.
    case loginsRefused(Duration)
    /// The sidecar exits, because the database cannot be used until a person changes something.
    case databaseUnusable(reason: String)
    /// Late by more than half of the margin, so every renewal grants a shorter life.
    indirect case starving(Shortage)
    /// The lease is not claimed, because a child might not be killed in time.
    indirect case cannotHold(Shortage)
    /// No child is started, or it was given up.
    indirect case starved(Shortage, pause: Duration)

    /// For programs; never changes.
    public var code: String {
        switch self {
        case .sessionLost: "session-lost"
        case .statementFailed: "statement-failed"
        case .refused: "refused"
        case .noLongerRefused: "no-longer-refused"
        case .recordCreated: "record-created"
        case .standby: "standing-by"
        case .suspended: "suspended"
        case .claimed: "claimed"
        case .lockWaived: "lock-waived"
        case .lockHeldByStranger: "lock-held-by-stranger"
        case .holdersTerminated: "holders-terminated"
        case .sessionsFenced: "sessions-fenced"
        case .resumed: "resumed"
        case .tookUpOwnRecord: "took-up-own-record"
        case .starting: "starting"
        case .started: "started"
        case .cannotExecute: "cannot-execute"
        case .cannotFork: "cannot-fork"
        case .childExited: "child-exited"
        case .restarting: "restarting"
        case .gaveUp: "gave-up"
        case .draining: "draining"
        case .killing: "killing"
        case .treeEmpty: "tree-empty"
        case .lost: "lost"
        case .released: "released"
        case .releaseRefused: "release-refused"
        case .guardSilent: "guard-silent"
        case .guardLost: "guard-lost"
        case .guardUndead: "guard-undead"
        case .startHung: "start-hung"
        case .leftBehind: "left-behind"
        case .surviving: "surviving"
        case .abandoned: "abandoned"
        case .loginsRefused: "logins-refused"
        case .databaseUnusable: "database-unusable"
        case .starving: "starving"
        case .cannotHold: "cannot-hold"
        case .starved: "starved"
        }
    }
}

/// Why the sidecar ends.
public enum Exit: Hashable, Sendable {
    /// It was asked to. `killed`: the child did not go within the grace period.
    case stopped(killed: Bool)
    /// `--once`: the child ended.
    case childEnded(ChildExit)
    case cannotExecute(errno: Int32)
    /// The guard died or hung; the keeper killed the tree.
    case guardLost
    /// PostgreSQL refused every login for `authFailureLimit`. A restart may bring the current credentials.
    case loginsRefused
    /// The database cannot be used until a person changes something. Never after it was usable once.
    case databaseUnusable

    /// For programs; never changes.
    public var code: String {
        switch self {
        case .stopped(killed: false): "stopped"
        case .stopped(killed: true): "stopped-killed"
        case .childEnded: "child-ended"
        case .cannotExecute: "cannot-execute"
        case .guardLost: "guard-lost"
        case .loginsRefused: "logins-refused"
        case .databaseUnusable: "database-unusable"
        }
    }
}

/// Why a leadership ended.
public enum Loss: String, Equatable, Sendable, CaseIterable {
    /// The deadline passed without a successful renewal.
    case deadlinePassed = "deadline-passed"
    /// The record names another holder, or is gone.
    case recordTaken = "record-taken"
    /// `--on-session-loss kill`.
    case sessionLost = "session-lost"

    /// For programs; never changes.
    public var code: String { rawValue }
}

/// Why a tree is killed.
public enum KillReason: String, Equatable, Sendable, CaseIterable {
    /// The guard's own deadline passed.
    case guardDeadline = "guard-deadline"
    /// A later kill might not finish in time (R2).
    case starved
    /// Asked to stop at once.
    case stoppedAtOnce = "stopped-at-once"
    /// It did not end within the grace period.
    case graceOver = "grace-over"

    /// The guard cannot set the timer that would wake it at the deadline.
    case guardTimerFailed = "guard-timer-failed"

    /// For programs; never changes.
    public var code: String { rawValue }
}

/// Why PostgreSQL would not let a standby lead.
public enum RefusalReason: Hashable, Sendable {
    /// What the server said, for people.
    case server(String)
    /// The record was made and is not shown (R10).
    case recordHidden

    /// For programs; never changes.
    public var code: String {
        switch self {
        case .server: "refused-by-server"
        case .recordHidden: "record-hidden"
        }
    }
}

/// Why a leadership ended, for its history.
public enum EndReason: Hashable, Sendable {
    case lost(Loss)
    /// Released, and why.
    case released(Release)
    /// Neither: processes that cannot be killed are left.
    case notReleased

    public enum Release: Hashable, Sendable {
        /// No special reason.
        case plain
        /// The child failed too often.
        case childFailed
        /// Too little processor time.
        case starved
        /// The sidecar ends.
        case exit(Exit)
    }

    /// For programs; never changes.
    public var code: String {
        switch self {
        case .lost(let loss): "lost-\(loss.code)"
        case .released(.plain): "released"
        case .released(.childFailed): "released-child-failed"
        case .released(.starved): "released-starved"
        case .released(.exit(let exit)): "released-\(exit.code)"
        case .notReleased: "not-released"
        }
    }
}

/// Why this machine is too slow to hold the lease, for people.
public struct Shortage: Hashable, Sendable {
    /// The worst lateness of the guard's timers and answers within `Timing.latenessWindow`.
    public var lateness: Duration
    public var strain: Strain
    public var ttl: Duration
}

/// From whom a claim took the lease, as far as known, for people.
public struct Predecessor: Hashable, Sendable {
    /// The node of the last leader; nil when the record names none.
    public var node: String?
    /// How long ago the record was last renewed or released.
    public var silence: Duration
    /// What became of the last leader's session.
    public var trace: Trace

    public enum Trace: String, Hashable, Sendable, CaseIterable {
        /// Not known, or without a meaning: nobody led, or the lease was released.
        case none
        /// It had ended: its lock was free. The sidecar crashed, or the server saw its connection break.
        case sessionEnded = "session-ended"
        /// It held the lock: the sidecar hung, or was cut off from the server.
        case sessionThere = "session-there"
        /// The server has been started again since: it has ended all sessions.
        case serverRestarted = "server-restarted"

        /// For programs; never changes.
        public var code: String { rawValue }
    }
}

/// Why a claim was allowed, for people.
public enum ClaimBasis: String, Equatable, Sendable {
    case released
    case expired
    /// No sidecar had ever held it, as far as is known.
    case unclaimed

    /// For programs; never changes.
    public var code: String { rawValue }
}
