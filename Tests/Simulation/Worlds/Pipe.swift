// Between a keeper and its guard: orders and answers on their way; and what the keeper's world
// decides about the guard's kernel.

import Clock
import Orders

@testable import Guard
@testable import GuardModel
@testable import Lease

/// What is under way between the two.
struct Pipe {
    var toGuard = Line<(order: Order, sentAt: Instant)>()
    var toKeeper = Line<Answer>()
    /// The last answers about a start: a guard may repeat itself, and R12 says that it does no harm.
    var said: [Answer] = []

    var isEmpty: Bool { toGuard.isEmpty && toKeeper.isEmpty }
}

extension Keeper: GuardOwner {
    func deliver(_ order: Order) {
        guard guardian.state != .dead, !guardian.isKeeperGone else { return }
        let sentAt = host.clock(at: world.now)
        let arrival = world.now + world.random.time(5_000, 100_000)
        pipe.toGuard.send((order, sentAt), at: arrival, through: world, guardBell)
    }

    func said(_ answer: Answer) {
        say(answer)
        switch answer {
        case .ready, .strained: break
        case .pong, .extended:
            if !pipe.said.isEmpty, world.random.chance(0.02) { say(world.random.pick(pipe.said)) }
        case .started, .notStarted, .exited, .killing, .leftBehind, .surviving, .empty:
            pipe.said.append(answer)
            if pipe.said.count > 8 { pipe.said.removeFirst() }
        }
    }

    private func say(_ answer: Answer) {
        let arrival = world.now + world.random.time(5_000, 100_000)
        pipe.toKeeper.send(answer, at: arrival, through: world, answerBell)
    }

    // MARK: The guard's kernel

    func forkFailure(commandIndex: Int) -> Int32? {
        guard world.failsForks, world.random.chance(0.2) else { return nil }
        world.felt(.children)
        return 11
    }

    func makeTree(
        of guardian: ModelGuard, _ start: StartID, deadline: Instant, commandIndex: Int, environment: [String]
    ) -> ProcessTree {
        let epoch = environment.first.flatMap { Int64($0) } ?? 0
        let child = Child(keeper: self, number: start.rawValue, epoch: Epoch(epoch), deadline: deadline)
        self.child = child
        return child
    }

    func killTime() -> Time {
        world.random.time(0, Time(Double(ttl) * world.profile.killPart))
            + world.random.time(0, host.starvation(at: world.now) / 2)
    }

    func guardDied() {
        guard state != .dead else { return }
        world.after(world.random.time(0, millisecond)) { [self] in hear(.guardGone) }
    }

    func guardStateChanged() { world.judge.look(at: self) }
}
