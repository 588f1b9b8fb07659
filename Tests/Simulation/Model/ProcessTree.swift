// What one start brought forth: the command, and what it left to itself. Alive as long as any of it is. How long the way to
// its exec is, and what the command then does, is up to the program that uses the model.

import Clock
import Orders

@testable import Guard

class ProcessTree {
    unowned(unsafe) final let stage: Stage
    final let guardian: ModelGuard
    final let host: Host
    final let number: UInt64
    final let deadline: Instant
    final let pid: Int32 = 2
    final private(set) var isBeforeExec = true
    final private(set) var hasCommand = false
    final var hasDaemons = false
    /// Its guard died before its exec: nothing will come of it, but it does not know.
    final private(set) var isLingering = false

    final var isAlive: Bool { hasCommand || hasDaemons }
    final var isExecuting: Bool { isAlive && !host.isSuspended }

    init(guardian: ModelGuard, number: UInt64, deadline: Instant) {
        self.guardian = guardian
        stage = guardian.stage
        host = guardian.host
        self.number = number
        self.deadline = deadline
    }

    /// Alive as that one is, of which it is a copy.
    final func become(copyOf other: ProcessTree) {
        isBeforeExec = other.isBeforeExec
        hasCommand = other.hasCommand
        hasDaemons = other.hasDaemons
    }

    // MARK: What is to be decided

    /// From fork to exec, which takes as long as the machine likes. Nil: for ever, until `execute`.
    func executionTime() -> Time? { 0 }
    /// The errno of an exec that is to fail, or nil.
    func executionFailure() -> Int32? { nil }
    /// The command runs, and nobody knows yet.
    func began(isLate: Bool) {}
    /// The guard will learn of it; now the command does what it does.
    func live() {}
    /// A signal to the command's own process.
    func signal(_ number: Int32) {}
    /// The command is about to end by itself.
    func exits() {}
    /// Part of it died, or all.
    func ended() {}

    // MARK: What becomes of it

    final func executeLater() {
        guard let takes = executionTime() else { return }
        stage.after(takes) { [self] in execute() }
    }

    final func execute() {
        isLingering = false
        guard isBeforeExec else { return }
        guard !host.isSuspended else { return stage.at(stage.now + millisecond) { [self] in execute() } }
        isBeforeExec = false
        let now = host.clock(at: stage.now)
        guard now < deadline || guardian.flaw == .noCheckBeforeExec else {
            return guardian.learned(.failed(.deadlinePassed), of: self)
        }
        if let failure = executionFailure() {
            return guardian.learned(.failed(.cannotExecute(errno: failure)), of: self)
        }
        hasCommand = true
        began(isLate: now >= deadline)
        guardian.learned(.executed, of: self)
        live()
    }

    /// The command ends by itself.
    final func exitLater(_ delay: Time, status: Int32) {
        stage.after(delay) { [self] in
            guard hasCommand, !host.isSuspended else { return }
            exits()
            killCommand(status: status)
        }
    }

    /// A signal took effect before the exec. All that the guard sees of it is what it sees of an exec, and an end.
    final func dieBeforeExec(status: Int32) {
        guard isBeforeExec else { return }
        guardian.learned(.executed, of: self)
        killCommand(status: status)
    }

    final func killCommand(status: Int32) {
        guard isBeforeExec || hasCommand else { return }
        isBeforeExec = false
        hasCommand = false
        ended()
        guardian.commandEnded(self, status: status)
    }

    /// Everything is gone.
    final func die() {
        isLingering = false
        guard isBeforeExec || isAlive else { return }
        isBeforeExec = false
        hasCommand = false
        hasDaemons = false
        ended()
    }

    /// The parent-death signal; who has not come so far as to ask for it finds its parent gone.
    final func guardDied() {
        guard isBeforeExec || hasCommand else { return }
        isLingering = isBeforeExec
        isBeforeExec = false
        hasCommand = false
        ended()
    }
}
