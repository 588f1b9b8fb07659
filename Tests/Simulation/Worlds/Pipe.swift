// Between a keeper and its guard: orders and answers on their way, in the words of either side; and what the keeper's world
// decides about the guard's kernel.

import Clock

@testable import Guard
@testable import GuardModel
@testable import Lease

/// What is under way between the two.
struct Pipe {
    var toGuard = Line<(order: Order, sentAt: Instant)>()
    var toKeeper = Line<GuardAnswer>()
    /// The last answers about a start: a guard may repeat itself, and R12 says that it does no harm.
    var said: [GuardAnswer] = []

    var isEmpty: Bool { toGuard.isEmpty && toKeeper.isEmpty }
}

extension Keeper: GuardOwner {
    func deliver(_ order: GuardOrder) {
        guard guardian.state != .dead, !guardian.isKeeperGone else { return }
        let translated = translate(order)
        let sentAt = host.clock(at: world.now)
        let arrival = world.now + world.random.time(5_000, 100_000)
        pipe.toGuard.send((translated, sentAt), at: arrival, through: world, guardBell)
    }

    func said(_ answer: Answer) {
        guard let translated = translate(answer) else { return }
        say(translated)
        if case .strained = translated { return }
        guard case .pong = translated else {
            pipe.said.append(translated)
            if pipe.said.count > 8 { pipe.said.removeFirst() }
            return
        }
        if !pipe.said.isEmpty, world.random.chance(0.02) { say(world.random.pick(pipe.said)) }
    }

    private func say(_ answer: GuardAnswer) {
        let arrival = world.now + world.random.time(5_000, 100_000)
        pipe.toKeeper.send(answer, at: arrival, through: world, answerBell)
    }

    private func translate(_ order: GuardOrder) -> Order {
        switch order {
        case .ping(let token): .ping(token: token)
        case .start(let id, let deadline, let epoch):
            .start(
                Generation(rawValue: id.rawValue), deadline: deadline, commandIndex: 1, environment: ["\(epoch)"])
        case .extend(let id, let deadline): .extend(Generation(rawValue: id.rawValue), deadline: deadline)
        case .signal(let id, let number): .signal(Generation(rawValue: id.rawValue), number: number)
        case .kill(let id): .kill(Generation(rawValue: id.rawValue))
        }
    }

    private func translate(_ answer: Answer) -> GuardAnswer? {
        switch answer {
        case .ready, .extended: nil
        case .strained(let strain): .strained(Lease.Strain(lateness: strain.lateness))
        case .pong(let token): .pong(token)
        case .started(let generation, let pid): .started(StartID(generation.rawValue), pid: pid)
        case .notStarted(let generation, let why): .notStarted(StartID(generation.rawValue), translate(why))
        case .exited(let generation, let status):
            .exited(StartID(generation.rawValue), status & 0x7f == 0 ? .code(status >> 8) : .signal(status & 0x7f))
        case .killing(_, .childExited): nil
        case .killing(let generation, let cause):
            .killing(StartID(generation.rawValue), byDeadline: cause == .deadline)
        case .empty(let generation): .empty(StartID(generation.rawValue))
        case .leftBehind, .surviving: nil
        }
    }

    private func translate(_ why: Guard.NotStarted) -> Lease.NotStarted {
        switch why {
        case .cannotExecute(let errno): .cannotExecute(errno: errno)
        case .cannotFork(let errno): .cannotFork(errno: errno)
        case .deadlinePassed: .deadlinePassed
        case .treeAlive, .stale: .refused
        }
    }

    // MARK: The guard's kernel

    func forkFailure(commandIndex: Int) -> Int32? {
        guard world.failsForks, world.random.chance(0.2) else { return nil }
        world.felt(.children)
        return 11
    }

    func makeTree(
        of guardian: ModelGuard, _ generation: Generation, deadline: Instant, commandIndex: Int, environment: [String]
    ) -> ProcessTree {
        let epoch = environment.first.flatMap { Int64($0) } ?? 0
        let child = Child(keeper: self, number: generation.rawValue, epoch: Epoch(epoch), deadline: deadline)
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
