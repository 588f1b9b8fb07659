// Target `guard`: packets and news in any order, decoded as the guard decodes them, into its machine. Whatever came, its
// promises hold: one tree at a time, no kill undone, "empty" only on the kernel's word.

import Clock
import Orders

@testable import Guard

func fuzzGuard(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    var run = Run()
    while !bytes.isEmpty { run.step(&bytes) }
}

/// A machine, and what may be believed of it by looking at its actions only.
private struct Run {
    private var machine = GuardMachine()
    private var now = Instant(nanoseconds: 0)
    private var newest: StartID?
    /// The start whose tree may be alive: forked, not yet empty.
    private var alive: (generation: StartID, pid: Int32, deadline: Instant)?
    private var killing = false
    private var gone = false
    private var said: Set<String> = []

    private enum News {
        case order(Order)
        case fork(failed: Bool)
        case empty, ticked, other
    }

    mutating func step(_ bytes: inout Bytes) {
        now = now + .nanoseconds(Int64(bytes.choice(of: 4)) * 10)
        switch bytes.choice(of: 12) {
        case 0...5: read(Wire.encode(bytes.likelyOrder(now, alive?.generation ?? newest)) ?? [], &bytes)
        case 6: read(bytes.bytes(), &bytes)
        case 7: check(machine.tick(now: now), .ticked, &bytes)
        case 8: check(bytes.bool() ? machine.executed() : machine.executionFailed(bytes.reason()), .other, &bytes)
        case 9:
            let pid = bytes.bool() ? machine.commandPid ?? 7 : 7
            check(machine.reaped(pid: pid, status: Int32(bytes.byte())), .other, &bytes)
        case 10:
            // The kernel can only say so of a tree whose command is reaped, and that is told first; of one that nobody
            // kills it is not believed.
            if killing, let pid = machine.commandPid { check(machine.reaped(pid: pid, status: 9), .other, &bytes) }
            check(machine.treeEmpty(), .empty, &bytes)
        default: check(bytes.bool() ? machine.keeperGone() : machine.nonsense(), .other, &bytes)
        }
    }

    private mutating func read(_ packet: [UInt8], _ bytes: inout Bytes) {
        guard let order = Wire.decodeOrder(packet) else { return check(machine.nonsense(), .other, &bytes) }
        check(machine.order(order, now: now), .order(order), &bytes)
    }

    private mutating func check(_ actions: [GuardMachine.Action], _ news: News, _ bytes: inout Bytes) {
        let wasKilling = killing
        for action in actions {
            switch action {
            case .fork(let generation, let deadline, _, _):
                demand(alive == nil && !gone, "\(generation) is forked beside nobody")
                demand(newest.map { generation > $0 } ?? true, "\(generation) is new")
                demand(deadline > now, "a child for the past: \(deadline) at \(now)")
                guard case .order(.start(generation, deadline, _, _)) = news else {
                    return demand(false, "a fork without its order: \(news)")
                }
                newest = generation
                fork(generation, deadline, &bytes)
            case .wake(let instant):
                demand(alive != nil, "woken for a child")
                alive?.deadline = instant
            case .signal(let pid, _):
                demand(pid == alive?.pid && !killing, "a signal for the living command only, not for \(pid)")
            case .kill:
                demand(alive != nil, "something to kill")
                killing = true
            case .leave:
                demand(alive == nil && !gone, "nobody is left behind")
                gone = true
            case .say(let answer): heard(answer, news, wasKilling: wasKilling)
            }
        }
        switch news {
        case .ticked, .order:
            demand(killing || alive.map { $0.deadline > now } ?? true, "killed at its deadline: \(alive as Any)")
        case .fork, .empty, .other: break
        }
        if gone { demand(machine.commandPid == nil, "the end is the end") }
    }

    private mutating func fork(_ generation: StartID, _ deadline: Instant, _ bytes: inout Bytes) {
        guard bytes.choice(of: 8) > 0 else {
            return check(machine.forkFailed(.cannotFork(errno: 11)), .fork(failed: true), &bytes)
        }
        alive = (generation, 50, deadline)
        killing = false
        check(machine.forked(pid: 50), .fork(failed: false), &bytes)
    }

    private mutating func heard(_ answer: Answer, _ news: News, wasKilling: Bool) {
        switch answer {
        case .ready, .strained: demand(false, "\(answer) is the guard's, not the machine's")
        case .pong(let token):
            switch news {
            case .order(.ping(token)): break
            case .order(.extend(let start, _, token)):
                // It may be killed in the same moment, for its deadline.
                demand(start != alive?.generation || killing, "\(start) lives and is not extended")
            default: demand(false, "a pong without its question: \(news)")
            }
        case .started(let generation, let pid):
            demand(generation == alive?.generation && pid == alive?.pid && !killing, "\(generation) lives")
            once("outcome", generation)
        case .notStarted(let generation, let reason):
            if reason == .treeAlive || reason == .stale { return }
            once("outcome", generation)
        case .extended(let generation, let deadline, let token):
            demand(generation == alive?.generation && !killing, "\(generation) is extended alive")
            guard case .order(.extend(generation, _, token)) = news else {
                return demand(false, "an answer without its question: \(news)")
            }
            demand(deadline == alive?.deadline, "the deadline in force, \(alive as Any), is told: \(deadline)")
        case .exited(let generation, _):
            demand(generation == alive?.generation, "\(generation) exits")
            once("exit", generation)
        case .killing(let generation, _):
            demand(generation == alive?.generation && !wasKilling, "\(generation) is killed once")
            once("kill", generation)
        case .leftBehind, .surviving: demand(false, "these are the guard's to tell, not the machine's alone")
        case .empty(let generation):
            switch news {
            case .empty: demand(killing && generation == alive?.generation, "\(generation) was killed")
            case .fork(failed: true): demand(generation == newest, "\(generation) was never there")
            case .order(.start(generation, let deadline, _, _)):
                demand(deadline <= now && alive == nil, "\(generation) came too late")
                newest = generation
            default: demand(false, "\(generation) is empty on nobody's word: \(news)")
            }
            once("empty", generation)
            alive = nil
            killing = false
        }
    }

    private mutating func once(_ what: String, _ generation: StartID) {
        demand(said.insert("\(what) \(generation.rawValue)").inserted, "\(what) of \(generation) is said once")
        demand(what == "empty" || !said.contains("empty \(generation.rawValue)"), "empty is the last word")
    }
}

extension Bytes {
    /// Mostly about the current start, and near the present.
    fileprivate mutating func likelyOrder(_ now: Instant, _ generation: StartID?) -> Order {
        let current = generation?.rawValue ?? 0
        let named = StartID(current &+ UInt64(choice(of: 3)) &- (bool() ? 1 : 0))
        let deadline = bool() ? now + .nanoseconds(Int64(Int8(bitPattern: byte()))) : instant()
        switch choice(of: 6) {
        case 0: return order()
        case 1, 2: return .start(named, deadline: deadline, commandIndex: 1, environment: [])
        case 3: return .extend(named, deadline: deadline, token: UInt64(byte()))
        case 4: return .signal(named, number: Int32(1 + choice(of: 64)))
        default: return .kill(named)
        }
    }
}
