// What goes into the machine and what comes out: events, statements, actions (Notices.swift has what it tells, Orders what passes
// between keeper and guard). All effects of the protocol pass
// through here, so that a test or a simulation can stand in for the database, the guard and the clock.

import Clock
import Orders

/// Something that happened. Every one is given together with a reading of the clock taken after it arrived.
public enum Event: Hashable, Sendable {
    /// The session is connected and prepared; `backend` is its name at the server.
    case sessionOpened(SessionID, backend: BackendID)
    /// The session is gone or could not be opened; `reason` is for people.
    case sessionLost(SessionID, reason: String, cause: SessionLoss = .other)
    /// The answer to the one statement in flight on the session.
    case reply(SessionID, Reply)
    /// The server refused the statement in flight; the session goes on. `lasting`: it will refuse it again until somebody
    /// changes something.
    case statementFailed(SessionID, reason: String, lasting: Bool = false)
    /// Somebody changed the record and said so.
    case notified
    case guardAnswered(Answer)
    /// The guard's end of the channel is closed, or it was reaped.
    case guardGone
    /// The guard's end of the channel is closed, or says what no guard says. It may take long to die.
    case guardFailed
    /// The keeper, heir of a dead guard's tree, has no descendant left.
    case descendantsGone
    /// Nothing below the condemned guard is alive, and it is not dead yet.
    case nothingAliveBelowGuard
    /// Some of what the keeper kills itself was SIGKILLed long ago and is alive yet. Repeated while it lasts.
    case survivors([SeenProcess])
    /// The guard could not be given the order to start this. Said at once, before any other news.
    case startUndelivered(StartID)
    case stopRequested(StopRequest)
    /// A signal that is meant for the child.
    case signalReceived(Int32)
    /// Time passed.
    case tick
}

/// What a lost session says about the credentials, or about the database.
public enum SessionLoss: Hashable, Sendable {
    /// The server refused the login, on every host that answered: trying again with the same credentials is no use.
    case loginRefused
    /// The database will not do until somebody changes a setting.
    case unusable
    case other
}

/// Who wants the sidecar to stop, and how.
public enum StopRequest: Hashable, Sendable {
    /// SIGTERM the child, keep renewing while it drains, at most for the grace period. Asked once more: kill at once.
    case drain
    /// The terminal is gone. Both the shell and the kernel may send this signal, so a second one does not mean "now".
    case terminalGone
    /// Kill at once.
    case now
}

/// What to ask of the database. One at a time, each one round trip in autocommit. Boxed is, here and below, what carries a whole
/// record: it would make every statement, reply and notice as large.
public enum Statement: Hashable, Sendable {
    /// Read the record.
    case observe
    /// R10: make the missing record, live and ownerless.
    case create(ttl: Duration, epochAbove: Epoch)
    /// R4: take the lock and the record, if it is still the one seen; fence (R8).
    indirect case claim(seen: Record, epochAbove: Epoch, lock: LockDemand = .needed)
    /// R4: terminate who holds the lock of a record that ran out.
    indirect case terminateHolder(seen: Record, strangers: StrangerDemand)
    /// R5: one more beat, in the session that holds the lock, if the record's session is one of `ours`; fence (R8).
    case renew(Epoch, ours: [BackendID] = [])
    /// R6, R9: one more beat through another session, if the record's is one of `ours`: terminates that former backend
    /// and takes the lock again.
    case resume(Epoch, ours: [BackendID] = [], lock: LockDemand = .needed)
    /// R7.
    case release(Epoch, beat: Int64)
    /// Give up the lock after a loss, or after a claim that came to nothing.
    case unlock
    case auxiliary(Auxiliary)
}

/// What a claim or a resume does when somebody else holds the advisory lock (R4, R6).
public enum LockDemand: Hashable, Sendable {
    /// It comes to nothing.
    case needed
    /// It goes on without: the lock's holder could not be ended, and the compare-and-set alone lets only one through.
    case waived
}

/// Which sessions that hold the lock, and are not in the record, are ended (R4).
public enum StrangerDemand: Hashable, Sendable {
    /// Those that have been idle for so long.
    case idleFor(Duration)
    /// All of them.
    case any
}

/// Statements that only people and speed need. They may fail without touching the lease.
public enum Auxiliary: Hashable, Sendable {
    /// Wake the standbys.
    case notify
    /// The claim's own statement, for a lease that is not there: tells what PostgreSQL would refuse, and can take nothing.
    case rehearse
    /// Tell the registry that we live.
    case register(leading: Bool, healthy: Bool)
    /// Leave the registry.
    case leave
    /// A leadership began so long ago.
    case historyBegin(Epoch, ago: Duration, previousRenewedAgo: Duration)
    /// A leadership ended so long ago: when its last tree was gone.
    case historyEnd(Epoch, reason: EndReason, ago: Duration)
}

/// The database's answer.
public enum Reply: Hashable, Sendable {
    indirect case observed(Observation)
    case created
    case claim(ClaimReply)
    case renewal(RenewalReply)
    case released(Bool)
    /// How many backends were told to go.
    case terminated(Int)
    /// To `unlock` and to auxiliary statements.
    case done
}

public enum ClaimReply: Hashable, Sendable {
    case claimed(Epoch, fenced: Int)
    /// Somebody holds the advisory lock.
    case lockBusy
    /// The record is not the one seen any more.
    case changed
}

public enum RenewalReply: Hashable, Sendable {
    case renewed(beat: Int64, fenced: Int)
    /// The record is not ours any more, or is not there.
    case notOurs
    /// The record is ours, but the advisory lock is somebody else's (R6).
    case lockBusy
}

/// Something to carry out, in the order given.
public enum Action: Hashable, Sendable {
    case openSession(SessionID)
    case closeSession(SessionID)
    case send(SessionID, Statement)
    /// Let the guard start the command under that epoch, unless it cannot be told: then say `startUndelivered`. What the command
    /// and its environment are is not the protocol's.
    case start(StartID, deadline: Instant, epoch: Epoch)
    /// Any other order.
    case order(Order)
    /// SIGKILL the guard.
    case killGuard
    /// Kill everything below the guard, without waiting for its death, until nothing of it is alive: then say
    /// `nothingAliveBelowGuard`. Over as soon as the guard is gone.
    case killBelowGuard
    /// Kill every descendant of the keeper until none is left, then say `descendantsGone`.
    case killDescendants
    /// Tell people, about the leadership of that epoch where there is one.
    case report(Notice, epoch: Epoch?)
    /// The end. Nothing follows.
    case exit(Exit)
}
