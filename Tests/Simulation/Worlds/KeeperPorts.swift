// What a world puts behind the ports of a keeper's loop: its host's clock, the channel to the modelled guard, what has fallen to
// the keeper, the session through the modelled network. The loop and its links are the real ones, and decide when.

import Clock
import Orders

@testable import Guard
@testable import GuardModel
@testable import Lease

struct WorldPorts: Ports {
    typealias Guardian = GuardEnd
    typealias Database = SessionEnd
    typealias Notifications = ListenerEnd

    unowned(unsafe) let keeper: Keeper

    func now() -> Instant { keeper.now }
    func nextSignal() -> KeeperSignal? { keeper.takeSignal() }
    func childEnvironment(_ epoch: Epoch, database: String) -> [String] { ["\(epoch)"] }
    func handle(_ event: Event, with machine: inout LeaseMachine, at now: Instant) -> [Action] {
        keeper.handle(event, with: &machine, at: now)
    }
    func report(_ notice: Notice, _ epoch: Epoch?, at now: Instant) { keeper.act(.report(notice)) }
    func tell(_ word: SessionEnd.Word, at now: Instant) { keeper.session.told(word) }
    func warn(_ problem: String, at now: Instant) {}
    func publish(_ snapshot: Snapshot, at now: Instant) {}
    func beat() {}
    func retireWatchdog() {}
}

// MARK: - The guard

/// The keeper's end of the channel, and what the kernel tells it of its guard.
final class GuardEnd: GuardPort, Alarmed {
    private unowned(unsafe) let keeper: Keeper
    private unowned(unsafe) let world: World
    private var toGuard = Line<(order: Order, sentAt: Instant)>()
    private var toKeeper = Line<Answer>()
    private let guardBell = Bell()
    private let keeperBell = Bell()
    /// Arrived and not read.
    private var unread: [Answer] = []
    /// The last answers about a start: a guard may repeat itself, and R12 says that it does no harm.
    private var said: [Answer] = []
    /// How many orders the channel takes while the guard does not read. In a quarter of the worlds that is next to nothing.
    private let room: Int
    private var isChannelClosed = false
    /// The keeper has given it up, and does not read any more.
    private var isGivenUp = false
    private(set) var hasEnded = false
    private var isReaped = false
    /// A sweep has begun to kill, and what it has begun to kill is dead.
    private var hasSweepBegun = false
    private var isSwept = false
    private var sweeps = 0

    init(_ keeper: Keeper) {
        self.keeper = keeper
        world = keeper.world
        room = [5: 0, 6: 1][keeper.world.seed % 8] ?? 200
        guardBell.owner = self
        keeperBell.owner = self
    }

    /// Nothing is under way.
    var isQuiet: Bool { toGuard.isEmpty && toKeeper.isEmpty && unread.isEmpty }

    /// The keeper has not read all that has arrived.
    var isUnread: Bool { !unread.isEmpty && !isGivenUp }

    private var guardian: ModelGuard { keeper.guardian }

    func send(_ order: Order) -> Bool {
        guard guardian.state != .dead, guardian.isRunning || guardian.unread + toGuard.count < room else {
            return false
        }
        keeper.act(.order(order))
        return true
    }

    func deliver(_ order: Order) {
        guard guardian.state != .dead, !guardian.isKeeperGone else { return }
        let arrival = world.now + world.random.time(5_000, 100_000)
        toGuard.send((order, keeper.now), at: arrival, through: world, guardBell)
    }

    func receive() -> GuardProcess.Received {
        guard keeper.state == .running else { return .nothing }
        // A twin's: the database is heard first.
        if world.twin == .guardHeardLast, keeper.session.isUnread { return .nothing }
        if !unread.isEmpty { return .answer(unread.removeFirst()) }
        return isChannelClosed ? .closed : .nothing
    }

    func ring(_ bell: Bell) {
        if bell === guardBell {
            let (order, sentAt) = toGuard.receive(through: world, bell)
            guardian.receive(.order(order), sentAt: sentAt)
        } else {
            let answer = toKeeper.receive(through: world, bell)
            guard keeper.state != .dead, !isGivenUp else { return }
            unread.append(answer)
            keeper.awake()
        }
    }

    /// The guard has put an answer into the channel.
    func say(_ answer: Answer) {
        send(answer)
        switch answer {
        case .ready, .strained: break
        case .pong, .extended:
            if !said.isEmpty, world.random.chance(0.02) { send(world.random.pick(said)) }
        case .started, .notStarted, .exited, .killing, .leftBehind, .surviving, .empty:
            said.append(answer)
            if said.count > 8 { said.removeFirst() }
        }
    }

    private func send(_ answer: Answer) {
        let arrival = world.now + world.random.time(5_000, 100_000)
        toKeeper.send(answer, at: arrival, through: world, keeperBell)
    }

    // MARK: Its end

    func kill() -> Bool {
        isGivenUp = true
        unread = []
        keeper.act(.killGuard)
        return true
    }

    /// The kernel closes the channel, then tells of the end.
    func guardDied() {
        let closed = world.random.time(0, millisecond / 2)
        world.after(closed) { [self] in
            isChannelClosed = true
            keeper.awake()
        }
        world.after(closed + world.random.time(0, millisecond / 2)) { [self] in
            hasEnded = true
            keeper.signal(.childEnded)
        }
    }

    func reap() -> Bool {
        guard keeper.state == .running, hasEnded, !isReaped else { return false }
        isReaped = true
        return true
    }

    func sweepBelowGuard() -> Guard.Tree.Progress {
        // Its children are the keeper's only once it has ended.
        swept() && guardian.state != .dead ? .empty : .alive
    }

    func sweep(sparingGuard: Bool) -> (progress: Guard.Tree.Progress, guardReaped: Bool) {
        let isOver = swept()
        let isReapedNow = isOver && reap()
        return (isOver && (isReaped || sparingGuard) ? .empty : .alive, isReapedNow)
    }

    /// Kills whatever is left. The first sweep signals all of it; its dying takes its time, and needs the keeper no more unless
    /// that is stopped meanwhile. Says whether all is dead.
    private func swept() -> Bool {
        guard keeper.state == .running, !hasSweepBegun else { return isSwept }
        hasSweepBegun = true
        sweeps += 1
        let sweep = sweeps
        world.after(keeper.killTime()) { [self] in
            guard sweep == sweeps, keeper.isRunning else { return }
            guardian.tree?.die()
            isSwept = true
        }
        return false
    }

    /// It was stopped in the middle of it.
    func sweepAgain() {
        if !isSwept { hasSweepBegun = false }
    }

    var remains: [SeenProcess] { [] }
    func removeCgroups() {}
    func close() {}
}

extension Keeper: GuardOwner {
    func said(_ answer: Answer) { guardEnd.say(answer) }

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
        isStartExplained = false
        return child
    }

    func killTime() -> Time {
        world.random.time(0, Time(Double(ttl) * world.profile.killPart))
            + world.random.time(0, host.starvation(at: world.now) / 2)
    }

    func guardDied() {
        guard state != .dead else { return }
        guardEnd.guardDied()
    }

    func guardStateChanged() { world.judge.look(at: self) }
}

// MARK: - The database

/// The keeper's end of its session.
final class SessionEnd: DatabasePort {
    /// How many sessions of an earlier child could not be ended (R8).
    typealias Word = Int
    typealias News = SessionNews<Word>

    private unowned(unsafe) let keeper: Keeper
    private(set) var connection: Connection?
    /// Arrived and not read.
    private var unread: [News] = []
    /// When the wait for an answer is over.
    private(set) var deadline: Instant?
    private var complaint = ""
    /// The next close is not the protocol's wish.
    private var closesByFault = false
    /// Words that the loop has read and not passed on.
    private var untold = 0

    init(_ keeper: Keeper) { self.keeper = keeper }

    let name = "d"
    var isIdle: Bool { connection != nil }
    var isUnread: Bool { !unread.isEmpty }

    func open() {
        keeper.act(.open)
        wait(keeper.timing.life, "no connection")
    }

    func close() {
        deadline = nil
        keeper.act(.close(byFault: closesByFault))
        closesByFault = false
    }

    func ask(_ statement: Statement) {
        keeper.act(.ask(statement))
        wait(keeper.timing.callLimit, "no answer")
    }

    private func wait(_ limit: Duration, _ complaint: String) {
        deadline = keeper.now + limit
        self.complaint = complaint
    }

    /// What came arrives first; only then is a wait over.
    func advance(_ asked: Statement?, at now: Instant) -> [News] {
        guard keeper.state == .running else { return [] }
        if unread.isEmpty {
            guard let deadline, now >= deadline else { return [] }
            connection?.close(byFault: true)
            connection = nil
            self.deadline = nil
            return [.lost(reason: complaint, .other)]
        }
        if keeper.guardEnd.isUnread {
            keeper.world.judge.blame("\(keeper.name) takes the database's news before what its guard has said")
        }
        var news = unread
        unread = []
        deadline = nil
        for new in news {
            switch new {
            case .lost: connection = nil
            case .failed(_, _, .some): closesByFault = true
            case .word: untold += 1
            default: break
            }
        }
        if keeper.world.twin == .unfencedUntold { news.removeAll { if case .word = $0 { true } else { false } } }
        return news
    }

    /// The loop passes a word on.
    func told(_ word: Word) { untold -= 1 }

    /// What people have to know is not to be lost on the way to them.
    func judgeWords() {
        guard untold > 0 else { return }
        keeper.world.judge.blame("\(keeper.name) was told of sessions that it could not fence, and tells nobody")
    }

    // MARK: In the world

    func arrived(_ new: News, through connection: Connection, unfenced: Int = 0) {
        guard self.connection === connection, keeper.state != .dead else { return }
        if unfenced > 0 { unread.append(.word(unfenced)) }
        unread.append(new)
        keeper.awake()
    }

    func notified(through connection: Connection) {
        guard self.connection === connection, keeper.state != .dead else { return }
        keeper.listener.hasHeard = true
        keeper.awake()
    }

    func opened() {
        closed(byFault: true)
        let opened = Connection(of: keeper)
        connection = opened
        keeper.world.connections.append(opened)
        opened.connect()
    }

    func closed(byFault: Bool) {
        connection?.close(byFault: byFault)
        connection = nil
        unread = []
    }

    /// A copy's: nobody at the other end.
    func pretendOpen() {
        let connection = Connection(of: keeper)
        self.connection = connection
        keeper.world.connections.append(connection)
    }

    func vanish() {
        connection?.vanish()
        connection = nil
    }

    func forget() {
        connection = nil
        unread = []
    }
}

/// The keeper's session that only listens. Modelled as one with the other: what it hears comes the same way.
final class ListenerEnd: ListenerPort {
    typealias Database = SessionEnd

    private unowned(unsafe) let keeper: Keeper
    var hasHeard = false

    init(_ keeper: Keeper) { self.keeper = keeper }

    var deadline: Instant? { nil }

    func follow(_ database: SessionEnd, at now: Instant) {}

    func advance(at now: Instant) -> ListenerNews? {
        guard hasHeard, keeper.state == .running else { return nil }
        hasHeard = false
        return .recordChanged
    }
}
