// Drives one lease machine by hand: a clock that only moves when told, a session and a guard that say what the test wants.
// Every step returns the actions, so that a test reads as "event in, action out".

import Clock
import Orders
import Testing

@testable import Lease

struct Driver {
    static let me = InstanceID("11111111-1111-1111-1111-111111111111")
    static let other = InstanceID("22222222-2222-2222-2222-222222222222")
    static let server = ServerID(1000)
    static let otherServer = ServerID(2000)

    /// The driver's own session of that number, as the server names it.
    static func backend(_ number: Int) -> BackendID { BackendID(pid: Int32(number), startedAt: Int64(number)) }
    /// Somebody else's.
    static let otherBackend = BackendID(pid: 999, startedAt: 999)

    var machine: LeaseMachine
    var now = Instant(nanoseconds: 1_000_000_000_000)
    /// All actions so far.
    var log: [Action] = []
    var session: SessionID { SessionID(sessions) }
    private var sessions = 0
    /// Answers pings at once when true.
    var guardAnswers = true

    init(
        ttl: Duration = .seconds(10), maxRestarts: Int = 3, once: Bool = false, killOnSessionLoss: Bool = false,
        authFailureLimit: Duration? = nil, readyWhen: ReadyWhen = .healthy
    ) throws {
        let settings = LeaseMachine.Settings(
            identity: Identity(lease: "test", node: "node", instance: Self.me), timing: try Timing(ttl: ttl),
            restarts: RestartPolicy(maxRestarts: maxRestarts, window: .seconds(300), cooldown: .seconds(60)),
            grace: .seconds(30), once: once, killOnSessionLoss: killOnSessionLoss, authFailureLimit: authFailureLimit,
            readyWhen: readyWhen)
        machine = LeaseMachine(settings: settings, at: now)
        feed(.tick)
    }

    /// One event; answers questions to the guard that come of it.
    @discardableResult
    mutating func feed(_ event: Event) -> [Action] {
        var actions = machine.handle(event, at: now)
        for action in actions {
            if case .openSession(let id) = action { sessions = id.rawValue }
        }
        if guardAnswers {
            for case .order(let order) in actions {
                switch order {
                case .ping(let token): actions += feed(.guardAnswered(.pong(token: token)))
                case .extend(let start, let deadline, let token):
                    actions += feed(.guardAnswered(.extended(start, deadline: deadline, token: token)))
                default: break
                }
            }
        } else {
            log += actions
            return actions
        }
        log += actions
        return actions
    }

    @discardableResult
    mutating func advance(_ duration: Duration) -> [Action] {
        settle()
        now = now + duration
        return feed(.tick)
    }

    @discardableResult
    mutating func reply(_ reply: Reply) -> [Action] { feed(.reply(session, reply)) }

    /// Opens the session and answers the chores it starts with, up to the first poll.
    @discardableResult
    mutating func open() -> [Action] { feed(.sessionOpened(session, backend: Self.backend(sessions))) }

    /// Answers auxiliary statements until something else is in flight or nothing is.
    mutating func settle() {
        while case .busy(_, .auxiliary, _) = machine.link { reply(.done) }
    }

    @discardableResult
    mutating func observe(
        epoch: Int64 = 5, beat: Int64 = 1, holder: InstanceID? = Driver.other, ttl: Duration = .seconds(10),
        released: Bool = false, suspended: Bool = false, writer: ServerID = Driver.server,
        server: ServerID = Driver.server, backend: BackendID? = Driver.backend(1)
    ) -> [Action] {
        reply(
            .observed(
                Observation(
                    record: Self.record(
                        epoch: epoch, beat: beat, holder: holder, ttl: ttl, released: released, suspended: suspended,
                        writer: writer, backend: backend), server: server, age: .zero)))
    }

    static func record(
        epoch: Int64 = 5, beat: Int64 = 1, holder: InstanceID? = Driver.other, ttl: Duration = .seconds(10),
        released: Bool = false, suspended: Bool = false, writer: ServerID = Driver.server,
        backend: BackendID? = Driver.backend(1)
    ) -> Record {
        Record(
            epoch: Epoch(epoch), beat: beat, holder: holder, node: "there", ttl: ttl, renewInterval: ttl / 5,
            released: released, suspended: suspended, server: writer, backend: backend)
    }

    /// Leading epoch 6 since `now`, the claim sent just now, the child not started yet.
    static func leading(
        ttl: Duration = .seconds(10), once: Bool = false, maxRestarts: Int = 3, killOnSessionLoss: Bool = false,
        authFailureLimit: Duration? = nil
    ) throws -> Driver {
        var driver = try Driver(
            ttl: ttl, maxRestarts: maxRestarts, once: once, killOnSessionLoss: killOnSessionLoss,
            authFailureLimit: authFailureLimit)
        driver.open()
        let actions = driver.observe(holder: nil, released: true)
        try #require(actions.statements.contains { if case .claim = $0 { true } else { false } })
        driver.reply(.claim(.claimed(Epoch(6), fenced: 0)))
        driver.settle()
        return driver
    }

    /// A standby whose claim was never answered, on a new session.
    static func claimInDoubt() throws -> Driver {
        var driver = try Driver()
        driver.open()
        driver.observe(holder: nil, released: true)
        driver.feed(.sessionLost(driver.session, reason: "the answer is lost"))
        driver.now = driver.now + .seconds(1)
        driver.feed(.tick)
        driver.open()
        return driver
    }

    /// Leading with a running child.
    static func running(
        ttl: Duration = .seconds(10), once: Bool = false, maxRestarts: Int = 3, killOnSessionLoss: Bool = false
    ) throws -> Driver {
        var driver = try leading(ttl: ttl, once: once, maxRestarts: maxRestarts, killOnSessionLoss: killOnSessionLoss)
        driver.feed(.guardAnswered(.started(driver.start, pid: 99)))
        driver.settle()
        return driver
    }

    /// The start under way, or the last one.
    var start: StartID { machine.lastStart }

    var leadership: Leadership? { if case .leading(let leadership) = machine.role { leadership } else { nil } }

    var isStandby: Bool { if case .standby = machine.role { true } else { false } }
}

extension [Action] {
    /// Without the sessions that renewals name: `namedSessions` has those.
    var statements: [Statement] {
        compactMap { action in
            guard case .send(_, let statement) = action else { return nil }
            return switch statement {
            case .renew(let epoch, _): .renew(epoch)
            case .resume(let epoch, _, let lock): .resume(epoch, lock: lock)
            default: statement
            }
        }
    }
    /// The sessions that the last renewal accepts in the record.
    var namedSessions: [BackendID]? {
        compactMap { action in
            switch action {
            case .send(_, .renew(_, let ours)), .send(_, .resume(_, let ours, _)): ours
            default: nil
            }
        }.last
    }
    /// Without pings, and without the tokens of extensions.
    var orders: [Order] {
        compactMap { action in
            guard case .order(let order) = action else { return nil }
            return switch order {
            case .ping: nil
            case .extend(let start, let deadline, _): .extend(start, deadline: deadline, token: 0)
            default: order
            }
        }
    }
    var notices: [Notice] { compactMap { if case .report(let notice, _) = $0 { notice } else { nil } } }
    var exits: [Exit] { compactMap { if case .exit(let exit) = $0 { exit } else { nil } } }
    var claims: Bool { statements.contains { if case .claim = $0 { true } else { false } } }
    var starts: Bool { contains { if case .start = $0 { true } else { false } } }
    var kills: Bool { orders.contains { if case .kill = $0 { true } else { false } } }
}
