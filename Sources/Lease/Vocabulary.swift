// What goes into the machine and what comes out: events, statements, actions. Notices.swift has what the machine
// reports, and Orders has what passes between keeper and guard. All effects of the protocol pass through here, so a
// test or a simulation can replace the database, the guard and the clock.

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
    /// The server refused the statement in flight; the session goes on. `lasting`: it will refuse it again until a
    /// person changes something.
    case statementFailed(SessionID, reason: String, lasting: Bool = false)
    /// A notification says that the record was changed.
    case notified
    case guardAnswered(Answer)
    /// The guard's end of the channel is closed, or it was reaped.
    case guardGone
    /// The guard's end of the channel is closed, or carries what no guard sends. The guard may take long to die.
    case guardFailed
    /// The guard is dead, and the keeper, which inherited its tree, has no descendant left.
    case descendantsGone
    /// Nothing below the condemned guard is alive, and it is not dead yet.
    case nothingAliveBelowGuard
    /// Some processes that the keeper itself kills got SIGKILL a while ago and are still alive. Repeated while it
    /// lasts.
    case survivors([SeenProcess])
    /// The order to start this could not be delivered to the guard. Reported at once, before any other event.
    case startUndelivered(StartID)
    case stopRequested(StopRequest)
    /// A signal that is meant for the child.
    case signalReceived(Int32)
    /// Time passed.
    case tick
}

/// What a lost session says about the credentials, or about the database.
public enum SessionLoss: Hashable, Sendable {
    /// The server refused the login, on every host that answered. The same credentials will not work later either.
    case loginRefused
    /// The database cannot be used until a person changes something.
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

/// What to ask of the database: one statement at a time, each one round trip in autocommit. Here and below, a case
/// that carries a whole record is `indirect`. Otherwise every statement, reply and notice would be as large.
public enum Statement: Hashable, Sendable {
    /// Read the record.
    case observe
    /// R10: make the missing record, live and ownerless.
    case create(ttl: Duration, epochAbove: Epoch)
    /// R4: take the lock and the record, if it is still the one seen; fence (R8).
    indirect case claim(seen: Record, epochAbove: Epoch, lock: LockDemand = .needed)
    /// R4: terminate the session that holds the lock of an expired record.
    indirect case terminateHolder(seen: Record, strangers: StrangerDemand)
    /// R5: one more beat, in the session that holds the lock, if the record's session is one of `ours`; fence (R8).
    case renew(Epoch, ours: [BackendID] = [])
    /// R6, R9: one more beat through another session, if the record's is one of `ours`: terminates that former backend
    /// and takes the lock again.
    case resume(Epoch, ours: [BackendID] = [], lock: LockDemand = .needed)
    /// R7.
    case release(Epoch, beat: Int64)
    /// Give up the lock after a loss, or after a claim that failed.
    case unlock
    case auxiliary(Auxiliary)
}

/// What a claim or a resume does when another session holds the advisory lock (R4, R6).
public enum LockDemand: Hashable, Sendable {
    /// The statement changes nothing.
    case needed
    /// The statement goes on without the lock. The lock's holder could not be terminated, and the compare-and-set
    /// alone lets only one sidecar win.
    case waived
}

/// Which sessions are terminated that hold the lock and are not named in the record (R4).
public enum StrangerDemand: Hashable, Sendable {
    /// Those that have been idle for this long.
    case idleFor(Duration)
    /// All of them.
    case any
}

/// Statements that serve only people and speed. They may fail without touching the lease.
public enum Auxiliary: Hashable, Sendable {
    /// Wake the standbys.
    case notify
    /// The claim's own statement, for a lease that does not exist. It shows what PostgreSQL would refuse, and cannot
    /// take a lease.
    case rehearse
    /// Tell the registry that this sidecar is alive.
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
    /// How many backends were terminated.
    case terminated(Int)
    /// To `unlock` and to auxiliary statements.
    case done
}

public enum ClaimReply: Hashable, Sendable {
    case claimed(Epoch, fenced: Int)
    /// Another session holds the advisory lock.
    case lockBusy
    /// The record is not the one seen any more.
    case changed
}

public enum RenewalReply: Hashable, Sendable {
    case renewed(beat: Int64, fenced: Int)
    /// The record is not ours any more, or is not there.
    case notOurs
    /// The record is ours, but another session holds the advisory lock (R6).
    case lockBusy
}

/// Something to carry out, in the order given.
public enum Action: Hashable, Sendable {
    case openSession(SessionID)
    case closeSession(SessionID)
    case send(SessionID, Statement)
    /// Order the guard to start the command under that epoch. If the order cannot be delivered, answer with
    /// `startUndelivered`. The protocol does not know the command and its environment.
    case start(StartID, deadline: Instant, epoch: Epoch)
    /// Any other order.
    case order(Order)
    /// SIGKILL the guard.
    case killGuard
    /// Kill everything below the guard, without waiting for its death, until nothing below it is alive. Then answer
    /// with `nothingAliveBelowGuard`. Ends as soon as the guard is gone.
    case killBelowGuard
    /// Kill every descendant of the keeper until none is left. Then answer with `descendantsGone`.
    case killDescendants
    /// Tell people, together with the epoch of the leadership that it concerns, if there is one.
    case report(Notice, epoch: Epoch?)
    /// The end. Nothing follows.
    case exit(Exit)
}
