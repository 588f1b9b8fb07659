// What the keeper's loop and its links have around them. `sidecar run` puts the system there: poll(2), libpq, the
// guard's channel, /proc, files. The simulation puts its worlds there, and runs the loop and the links as they are.

import Clock
import Guard
import Lease
import Orders

/// What the loop itself asks for. Nothing here blocks.
protocol Ports {
    associatedtype Guardian: GuardPort
    associatedtype Database: DatabasePort
    associatedtype Notifications: ListenerPort where Notifications.Database == Database

    /// The clock that also counts the time in which the machine sleeps. Never the wall clock.
    func now() -> Instant

    /// The next signal that waits, or nil.
    mutating func nextSignal() -> KeeperSignal?

    /// What the child finds in its environment, each a `NAME=value` (R8). `database`: the name of the lease's database.
    func childEnvironment(_ epoch: Epoch, database: String) -> [String]

    /// Hands an event to the machine, and returns what it wants done. Sabotaged twins break a rule here; the product
    /// leaves it as it is below.
    mutating func handle(_ event: Event, with machine: inout LeaseMachine, at now: Instant) -> [Action]

    // What the outside is told. It may all fail.

    mutating func report(_ notice: Notice, _ epoch: Epoch?, at now: Instant)
    /// What the database's session has to tell besides the protocol's news.
    mutating func tell(_ word: Database.Word, at now: Instant)
    /// The listener does not listen for a while.
    mutating func warn(_ problem: String, at now: Instant)
    mutating func publish(_ snapshot: Snapshot, at now: Instant)

    // The watchdog.

    /// The loop turns.
    func beat()
    /// From now on a slow loop must not end the process: only the keeper can still kill the guard's tree.
    func retireWatchdog()
}

extension Ports {
    mutating func handle(_ event: Event, with machine: inout LeaseMachine, at now: Instant) -> [Action] {
        machine.handle(event, at: now)
    }
}

/// A signal, as far as the loop makes a difference.
enum KeeperSignal: Equatable {
    /// Something below the keeper has ended (SIGCHLD).
    case childEnded
    case stop(StopRequest)
    /// One that is meant for the command.
    case forChild(Int32)
}

/// The guard's end of the channel, and its process. Killing and reaping are the kernel's; when they are due is not.
protocol GuardPort: AnyObject {
    /// Delivers an order without waiting.
    /// - Returns: false if the order was not delivered: the channel has no room, or the guard is gone.
    func send(_ order: Order) -> Bool
    /// The next answer, without waiting.
    func receive() -> GuardProcess.Received
    /// SIGKILLs the guard.
    /// - Returns: whether SIGKILL is under way, so that it makes no process any more.
    func kill() -> Bool
    /// Whether it has ended, reaped or not.
    var hasEnded: Bool { get }
    /// Reaps whatever has ended below the keeper.
    /// - Returns: whether the guard was among it.
    func reap() -> Bool
    /// One sweep over what is below a guard that is condemned and has not ended.
    func sweepBelowGuard() -> Tree.Progress
    /// One sweep over all that is below the keeper. `sparingGuard`: the guard itself cannot be reaped, and does not
    /// count.
    func sweep(sparingGuard: Bool) -> (progress: Tree.Progress, guardReaped: Bool)
    /// What the last whole sweep left.
    var remains: [SeenProcess] { get }
    /// The tree is empty, and the guard cannot tidy up any more.
    func removeCgroups()
    /// Closes the channel: a living guard kills its tree and leaves.
    func close()
}

/// The lease's one session, and how it is opened.
protocol DatabasePort {
    /// What it has to tell people besides the protocol's news.
    associatedtype Word

    /// Gives up the session before, if there is one, and begins a new one.
    mutating func open()
    /// Without waiting for anybody. Whatever it would still have said is lost.
    mutating func close()
    /// It is open, prepared, and has no statement under way.
    var isIdle: Bool { get }
    mutating func ask(_ statement: Statement)
    /// Reads whatever there is; `asked` is the statement under way.
    mutating func advance(_ asked: Statement?, at now: Instant) -> [SessionNews<Word>]
    /// When to advance at the latest.
    var deadline: Instant? { get }
    /// The database's name; empty before the first session is open.
    var name: String { get }
}

/// What became of a session since it was last asked.
enum SessionNews<Word> {
    /// It is open and prepared.
    case opened(BackendID)
    case answered(Reply)
    /// The statement failed and the session goes on. `lasting`: it will fail until somebody changes something.
    /// `schemaLost`: the schema is not what it was when the session was prepared; what to say of that.
    case failed(reason: String, lasting: Bool, schemaLost: String?)
    /// Always the last.
    case lost(reason: String, SessionLoss)
    case word(Word)
}

/// Hears that a record has changed, through a session of its own.
protocol ListenerPort {
    associatedtype Database: DatabasePort

    /// The lease's session is new, maybe with another server: listen there.
    mutating func follow(_ database: Database, at now: Instant)
    /// Reads whatever there is.
    mutating func advance(at now: Instant) -> ListenerNews?
    /// When to advance at the latest.
    var deadline: Instant? { get }
}

/// What came of advancing the listener.
enum ListenerNews: Equatable {
    /// Our lease's record may have changed.
    case recordChanged
    /// It does not listen for a while; said once until it does again.
    case problem(String)
}
