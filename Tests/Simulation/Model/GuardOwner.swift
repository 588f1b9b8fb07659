// What a modelled guard has around it, different in each program that uses the model: somebody who hears it, and a kernel
// with a command, which decide how long everything takes and what comes of it.

import Clock
import Orders

@testable import Guard

protocol GuardOwner: AnyObject {
    var name: String { get }
    /// The guard has put an answer into the channel.
    func said(_ answer: Answer)
    /// The errno of a fork that is to fail, or nil.
    func forkFailure(commandIndex: Int) -> Int32?
    /// The tree that a successful fork begins.
    func makeTree(
        of guardian: ModelGuard, _ generation: StartID, deadline: Instant, commandIndex: Int, environment: [String]
    )
        -> ProcessTree
    /// How long killing the tree takes once begun.
    func killTime() -> Time
    /// The guard was killed.
    func guardDied()
    /// The guard runs no longer, or is dead.
    func guardStateChanged()
}

/// The guard with one rule broken, in one place of the model.
enum GuardFlaw: String, CaseIterable, Sendable {
    /// It has no timer, only the keeper's orders.
    case noGuardTimer
    /// Its timer stands still while the machine sleeps.
    case monotonicTimer
    /// An extension stops a kill that has begun.
    case extendAfterKill
    /// Nobody looks at the clock just before exec.
    case noCheckBeforeExec
    /// Deadlines count from the arrival of their order.
    case relativeDeadlines
    /// "Empty" is said when the command is dead, whatever it left behind.
    case emptyWithoutDaemons
}

/// Wait statuses as wait(2) has them.
enum WaitStatus {
    static func code(_ code: Int32) -> Int32 { (code & 0xff) << 8 }
    static func signal(_ number: Int32) -> Int32 { number }
}
