// Target `machine`: the protocol under any sequence of news, likely and absurd. What it is allowed is worked out here from
// its statements and their answers alone: a child only under a grant that is still running and in an empty house, one
// statement at a time, a release only of an empty tree, one exit and nothing after it, and no waking for ever at one instant.

import Clock
import Orders

@testable import Lease

func fuzzMachine(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    var run = Run(&bytes)
    while !bytes.isEmpty { run.step(&bytes) }
}

private let me = InstanceID("11111111-1111-1111-1111-111111111111")

/// A machine, and the world as its orders and the news make it.
private struct Run {
    private let timing: Timing
    private var machine: LeaseMachine
    private var now = Instant(nanoseconds: 1_000_000_000_000)

    private enum Session: Equatable {
        case none
        case opening(SessionID)
        case idle(SessionID)
        case busy(SessionID, Statement, sentAt: Instant)
    }
    private var session = Session.none
    private var lastSession = SessionID(0)
    /// The token of the last question.
    private var question: UInt64 = 0
    private var lastStart = StartID(0)
    /// It was ordered by the last news, so it may still turn out not to be delivered.
    private var isFresh = false
    /// The start whose tree may be alive.
    private var alive: StartID?
    private enum Warden { case there, dead, buried }
    private var warden = Warden.there
    /// The keeper kills what is below it.
    private var isCondemned = false
    /// The epoch last claimed or renewed, and until when a child may live by that (R2).
    private var grant: (epoch: Epoch, until: Instant)?
    private var released: Set<Epoch> = []
    private var exited = false
    /// How often it wanted to be woken at once.
    private var wakes = 0
    private var record: Record

    init(_ bytes: inout Bytes) {
        timing = defaultTiming
        let settings = LeaseMachine.Settings(
            identity: Identity(lease: "l", node: "n", instance: me), timing: timing,
            restarts: RestartPolicy(maxRestarts: bytes.choice(of: 3), window: .seconds(300), cooldown: .seconds(60)),
            grace: .seconds(bytes.choice(of: 40)), once: bytes.bool(), killOnSessionLoss: bytes.bool())
        machine = LeaseMachine(settings: settings, at: now)
        record = Record(
            epoch: Epoch(1000), beat: 0, holder: nil, node: nil, ttl: .seconds(10), renewInterval: .seconds(2),
            released: true, suspended: false, server: ServerID(1))
        feed(.tick)
    }

    mutating func step(_ bytes: inout Bytes) {
        switch bytes.choice(of: 16) {
        // The likely ones first: the world does what it was asked to.
        case 0...4: answerSession(&bytes)
        case 5, 6: answerQuestion(bytes.byte() < 230 ? question : question &- 1, &bytes)
        case 7: feed(.guardAnswered(.started(bytes.start(lastStart), pid: 50)))
        case 8: feed(.guardAnswered(bytes.end(bytes.start(lastStart))))
        case 9: feed(.guardAnswered(.empty(bytes.start(lastStart))))
        case 10: loseSession(bytes.bool() ? current ?? lastSession : SessionID(bytes.choice(of: 4)))
        case 11:
            now = now + .milliseconds(Int64(bytes.byte()) * (bytes.bool() ? 1 : 100))
            feed(.tick)
        case 12:
            now = max(now, machine.nextWake == Instant(nanoseconds: .max) ? now : machine.nextWake)
            feed(.tick)
        case 13: feed(bytes.pick([.notified, .signalReceived(10), .tick]))
        case 14: edit(&bytes)
        default: rare(&bytes)
        }
    }

    private mutating func rare(_ bytes: inout Bytes) {
        switch bytes.choice(of: 6) {
        case 0: feed(.stopRequested(bytes.pick([.drain, .terminalGone, .now])))
        case 1: undelivered(bytes.bool())
        case 2: feed(.descendantsGone)
        case 4: feed(.guardFailed)
        case 5: if isCondemned, warden == .there { feed(.nothingAliveBelowGuard) }
        default:
            // A late one, of a session that is gone.
            let id = SessionID(bytes.choice(of: 4))
            if id != current { feed(.reply(id, .done)) }
        }
    }

    /// It is only said right after the order.
    private mutating func undelivered(_ isGone: Bool) {
        if isGone { feed(.guardGone) } else if isFresh { feed(.startUndelivered(lastStart)) }
    }

    private var current: SessionID? {
        switch session {
        case .none: nil
        case .opening(let id), .idle(let id), .busy(let id, _, _): id
        }
    }

    private mutating func answerQuestion(_ token: UInt64, _ bytes: inout Bytes) {
        guard bytes.bool() else { return feed(.guardAnswered(.pong(token: token))) }
        feed(.guardAnswered(.extended(bytes.start(lastStart), deadline: now, token: token)))
    }

    private mutating func loseSession(_ id: SessionID) {
        if id == current { session = .none }
        feed(.sessionLost(id, reason: "lost"))
    }

    /// Opens what was asked for, or answers what is in flight.
    private mutating func answerSession(_ bytes: inout Bytes) {
        now = now + .milliseconds(Int64(bytes.choice(of: 8)) * 5)
        switch session {
        case .none: feed(.tick)
        case .idle(let id): feed(.reply(id, .done))
        case .opening(let id):
            session = .idle(id)
            feed(.sessionOpened(id, backend: BackendID(pid: Int32(truncatingIfNeeded: id.rawValue), startedAt: 1)))
        case .busy(let id, let statement, let sentAt):
            session = .idle(id)
            guard bytes.byte() < 230 else { return feed(.statementFailed(id, reason: "refused")) }
            feed(.reply(id, answer(statement, sentAt, &bytes)))
        }
    }

    private mutating func answer(_ statement: Statement, _ sentAt: Instant, _ bytes: inout Bytes) -> Reply {
        switch statement {
        case .observe:
            let missing = bytes.byte() > 240
            return .observed(
                Observation(
                    record: missing ? nil : record, server: ServerID(bytes.byte() < 230 ? 1 : 2),
                    age: .milliseconds(bytes.number())))
        case .create: return .created
        case .claim(let seen, let above, _):
            switch bytes.choice(of: 8) {
            case 0: return .claim(.lockBusy)
            case 1: return .claim(.changed)
            default:
                let epoch = Epoch(max(seen.epoch.rawValue, above.rawValue, record.epoch.rawValue, 0) &+ 1 & .max)
                record.epoch = epoch
                record.holder = me
                record.released = false
                grant = (epoch, sentAt + (timing.ttl - timing.margin))
                return .claim(.claimed(epoch, fenced: bytes.choice(of: 2)))
            }
        case .renew(let epoch, _), .resume(let epoch, _, _):
            switch bytes.choice(of: 8) {
            case 0: return .renewal(.lockBusy)
            case 1: return .renewal(.notOurs)
            default:
                record.beat = record.beat &+ 1
                grant = (epoch, sentAt + (timing.ttl - timing.margin))
                return .renewal(.renewed(beat: record.beat, fenced: 0))
            }
        case .terminateHolder: return .terminated(bytes.choice(of: 3))
        case .release:
            let done = bytes.byte() < 200
            if done { (record.released, record.holder) = (true, nil) }
            return .released(done)
        case .unlock, .auxiliary: return .done
        }
    }

    /// Hands, or another node, change the record within what the schema lets pass.
    private mutating func edit(_ bytes: inout Bytes) {
        record.beat = record.beat &+ 1
        switch bytes.choice(of: 6) {
        case 0: record.holder = bytes.bool() ? me : InstanceID("22222222-2222-2222-2222-222222222222")
        case 1: record.released.toggle()
        case 2: record.suspended.toggle()
        case 3: record.ttl = .milliseconds(500 + abs(bytes.number() % 3_599_500))
        case 4: record.renewInterval = .milliseconds(20 + abs(bytes.number() % 1_799_980))
        default: record.epoch = Epoch(abs(bytes.number() % 9_000_000_000_000_000))
        }
    }

    private mutating func feed(_ event: Event) {
        switch event {
        case .guardAnswered(.empty(let start)) where start == alive: alive = nil
        // Nothing came of it.
        case .startUndelivered(let start) where start == alive: alive = nil
        case .guardGone: if warden == .there { warden = .dead }
        case .descendantsGone where warden == .dead: (warden, alive) = (.buried, nil)
        case .nothingAliveBelowGuard: (warden, alive) = (.buried, nil)
        default: break
        }
        isFresh = false
        let actions = machine.handle(event, at: now)
        demand(!exited || actions.isEmpty, "nothing follows the exit: \(actions)")
        for action in actions { check(action, event) }
        _ = machine.snapshot(at: now)
        guard !exited, machine.nextWake <= now else {
            wakes = 0
            return
        }
        // What one wake has settled may be followed by what is due next, but not for ever.
        wakes += 1
        demand(wakes < 4, "it comes to rest at \(now): \(machine)")
        feed(.tick)
    }

    private mutating func check(_ action: Action, _ event: Event) {
        demand(!exited, "\(action) after the exit")
        switch action {
        case .openSession(let id):
            demand(session == .none && id > lastSession, "\(id) beside \(session)")
            (session, lastSession) = (.opening(id), id)
        case .closeSession(let id):
            demand(id == current, "\(id) is open to be closed")
            session = .none
        case .send(let id, let statement):
            demand(session == .idle(id), "\(statement) while \(session)")
            session = .busy(id, statement, sentAt: now)
            if case .release(let epoch, _) = statement {
                demand(alive == nil, "released with \(alive as Any) alive")
                demand(epoch == grant?.epoch, "\(epoch) released under \(grant as Any)")
                demand(released.insert(epoch).inserted, "\(epoch) is released once")
            }
        case .start(let start, let deadline, let epoch): began(start, deadline, epoch)
        case .order(let order): check(order)
        case .killGuard, .report: break
        case .killBelowGuard: isCondemned = true
        case .killDescendants: demand(warden == .dead, "the tree is the guard's while it lives")
        case .exit:
            demand(alive == nil, "no exit with \(alive as Any) alive")
            exited = true
        }
    }

    private mutating func began(_ start: StartID, _ deadline: Instant, _ epoch: Epoch) {
        demand(alive == nil && warden == .there, "\(start) beside \(alive as Any), guard \(warden)")
        demand(start > lastStart, "\(start) after \(lastStart)")
        demand(epoch == grant?.epoch && !released.contains(epoch), "\(start) in \(epoch) under \(grant as Any)")
        granted(deadline)
        guard case .leading(let leadership) = machine.role else { return demand(false, "\(start) without leading") }
        demand(leadership.epoch == epoch, "\(start) in \(epoch) while leading in \(leadership.epoch)")
        (lastStart, alive, isFresh) = (start, start, true)
    }

    private mutating func check(_ order: Order) {
        switch order {
        case .ping(let token): question = token
        case .start, .handicap: demand(false, "\(order) is not the machine's to give")
        case .extend(let start, let deadline, let token):
            question = token
            demand(start == lastStart && alive != nil, "\(start) is extended alive")
            granted(deadline)
        case .signal(let start, _), .kill(let start): demand(start == lastStart, "\(start) was started last")
        }
    }

    /// R1, R2: never beyond what the last successful statement allows, and never into the past.
    private func granted(_ deadline: Instant) {
        demand(
            grant.map { deadline <= $0.until } == true && deadline > now, "\(deadline) at \(now) under \(grant as Any)")
    }
}

extension Bytes {
    /// Mostly the last start, sometimes the one before.
    fileprivate mutating func start(_ last: StartID) -> StartID {
        StartID(byte() < 220 ? last.rawValue : last.rawValue &- 1)
    }

    /// How a start came to its end.
    fileprivate mutating func end(_ start: StartID) -> Answer {
        switch choice(of: 9) {
        case 0: .notStarted(start, .cannotExecute(errno: 2))
        case 1: .notStarted(start, .cannotFork(errno: 11))
        case 2: .notStarted(start, .deadlinePassed)
        case 3: .notStarted(start, bool() ? .treeAlive : .stale)
        case 4, 5: .killing(start, pick(KillCause.allCases))
        default: .exited(start, bool() ? .code(Int32(byte())) : .signal(9))
        }
    }
}
