// The order of events in one turn of the keeper's loop, what its links make of what they hear, and what they let through.

import Clock
import Guard
import Lease
import Orders
import Testing

@testable import Keeper

/// What the loop asked for, in turn, and what it is to be told.
private final class Stage {
    var asked: [String] = []
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var signals: [KeeperSignal] = []
    var notices: [Notice] = []
}

private struct FakePorts: Ports {
    typealias Guardian = FakeGuard
    typealias Database = FakeSession
    typealias Notifications = FakeListener

    let stage: Stage

    func now() -> Instant { stage.now }
    func nextSignal() -> KeeperSignal? {
        stage.asked.append("signal")
        return stage.signals.isEmpty ? nil : stage.signals.removeFirst()
    }
    func childEnvironment(_ epoch: Epoch, database: String) -> [String] { [] }
    func report(_ notice: Notice, _ epoch: Epoch?, at now: Instant) { stage.notices.append(notice) }
    func tell(_ word: String, at now: Instant) { stage.asked.append("tell \(word)") }
    func warn(_ problem: String, at now: Instant) { stage.asked.append("warn") }
    func publish(_ snapshot: Snapshot, at now: Instant) { stage.asked.append("publish") }
    func beat() { stage.asked.append("beat") }
    func retireWatchdog() { stage.asked.append("retire") }
}

private final class FakeGuard: GuardPort {
    let stage: Stage
    var hasRoom = true
    var sent: [Order] = []
    var answers: [GuardProcess.Received] = []
    var hasEnded = false
    var progress = Tree.Progress.alive

    init(_ stage: Stage) { self.stage = stage }

    func send(_ order: Order) -> Bool {
        stage.asked.append("send")
        if hasRoom { sent.append(order) }
        return hasRoom
    }
    func receive() -> GuardProcess.Received {
        stage.asked.append("receive")
        return answers.isEmpty ? .nothing : answers.removeFirst()
    }
    func kill() -> Bool {
        stage.asked.append("kill")
        return true
    }
    func reap() -> Bool {
        stage.asked.append("reap")
        return hasEnded
    }
    func sweepBelowGuard() -> Tree.Progress {
        stage.asked.append("sweep below")
        return progress
    }
    func sweep(sparingGuard: Bool) -> (progress: Tree.Progress, guardReaped: Bool) {
        stage.asked.append(sparingGuard ? "sweep, sparing" : "sweep")
        return (progress, false)
    }
    var remains: [SeenProcess] { [] }
    func removeCgroups() {}
    func close() {}
}

private final class FakeSession: DatabasePort {
    let stage: Stage
    var news: [SessionNews<String>] = []
    var isIdle = true
    var statements: [Statement] = []

    init(_ stage: Stage) { self.stage = stage }

    func open() { stage.asked.append("open") }
    func close() { stage.asked.append("close") }
    func ask(_ statement: Statement) { statements.append(statement) }
    func advance(_ asked: Statement?, at now: Instant) -> [SessionNews<String>] {
        stage.asked.append("database")
        defer { news = [] }
        return news
    }
    var deadline: Instant?
    let name = "d"
}

private struct FakeListener: ListenerPort {
    let stage: Stage

    func follow(_ database: FakeSession, at now: Instant) { stage.asked.append("follow") }
    func advance(at now: Instant) -> ListenerNews? {
        stage.asked.append("listener")
        return nil
    }
    var deadline: Instant? { nil }
}

@Suite("The keeper's loop") struct KeeperLoopTests {
    private let stage = Stage()
    private let guardian: FakeGuard
    private let session: FakeSession
    private var loop: KeeperLoop<FakePorts>

    init() throws {
        guardian = FakeGuard(stage)
        session = FakeSession(stage)
        let settings = LeaseMachine.Settings(
            identity: Identity(lease: "l", node: "n", instance: InstanceID("i")), timing: try Timing(ttl: .seconds(10)),
            restarts: RestartPolicy(maxRestarts: 3, window: .seconds(300), cooldown: .seconds(60)), grace: .seconds(30))
        loop = KeeperLoop(
            settings: settings, ports: FakePorts(stage: stage),
            guardLink: GuardLink(guardian, commandIndex: 1, handicap: Handicap()), database: session,
            listener: FakeListener(stage: stage))
        loop.begin()
        stage.asked = []
    }

    @Test("One turn hears the guard first, then signals, the database, the listener; then it publishes")
    mutating func order() {
        loop.turn()
        #expect(stage.asked == ["beat", "receive", "signal", "database", "listener", "publish"])
    }

    @Test("What waits for the guard is delivered before anything is heard, and nothing overtakes it")
    mutating func waiting() {
        guardian.hasRoom = false
        loop.guardLink.order(.ping(token: 7))
        #expect(loop.guardLink.isWaitingForRoom)
        guardian.hasRoom = true
        loop.guardLink.order(.ping(token: 8))
        stage.asked = []
        loop.turn()
        #expect(stage.asked.prefix(3) == ["beat", "send", "receive"])
        #expect(guardian.sent.last == .ping(token: 8))
    }

    @Test("A guard whose channel is closed is killed, and what is below it at once, before any other news")
    mutating func closedChannel() {
        guardian.answers = [.closed]
        loop.turn()
        #expect(stage.asked.prefix(5) == ["beat", "receive", "kill", "retire", "sweep below"])
        #expect(stage.asked.last == "publish", "\(stage.asked)")
        #expect(loop.wake(at: stage.now) <= stage.now + .milliseconds(10))
    }

    @Test("The end of a guard that was swept below begins the sweep over all that is left")
    mutating func heritage() {
        guardian.answers = [.closed]
        loop.turn()
        guardian.hasEnded = true
        stage.signals = [.childEnded]
        stage.asked = []
        loop.turn()
        #expect(stage.asked.prefix(5) == ["beat", "signal", "reap", "signal", "retire"])
        #expect(stage.notices.contains(.guardLost))
        #expect(stage.asked.contains("sweep"))
        guardian.progress = .empty
        loop.turn()
        #expect(stage.notices.contains(.treeEmpty))
    }

    @Test("What the session has to tell comes before the reply it came with") mutating func words() {
        session.news = [.word("left alone"), .opened(BackendID(pid: 1, startedAt: 1))]
        loop.turn()
        #expect(stage.asked.drop { $0 != "database" }.prefix(3) == ["database", "tell left alone", "follow"])
    }

    @Test("A changed schema costs the session, but not again and again") mutating func schema() {
        session.news = [.opened(BackendID(pid: 1, startedAt: 1))]
        loop.turn()
        let failure = SessionNews<String>.failed(reason: "no column", lasting: true, schemaLost: "changed")
        session.news = [failure]
        stage.asked = []
        loop.turn()
        #expect(stage.asked.contains("close"))
        #expect(stage.notices.contains(.sessionLost(reason: "changed")))
        stage.now = stage.now + .seconds(1)
        loop.turn()
        session.news = [.opened(BackendID(pid: 2, startedAt: 2))]
        loop.turn()
        session.news = [failure]
        stage.asked = []
        loop.turn()
        #expect(!stage.asked.contains("close"))
    }

    @Test("A statement is not sent through a session that has just broken") mutating func brokenSession() {
        session.isIdle = false
        session.news = [.opened(BackendID(pid: 1, startedAt: 1))]
        loop.turn()
        #expect(session.statements.isEmpty)
    }
}
