// The guard's decisions as tables (event in, action out), and its promises under random events: no kill is undone, no
// child outlives a tick at its deadline, and "empty" is the last word and follows only the kernel's.

import Clock
import Orders
import TestSupport
import Testing

@testable import Guard

@Suite struct GuardMachineTests {
    static let one = StartID(1)
    static let two = StartID(2)

    static func at(_ nanoseconds: Int64) -> Instant { Instant(nanoseconds: nanoseconds) }

    static func start(_ generation: StartID, _ deadline: Int64) -> Order {
        .start(generation, deadline: at(deadline), commandIndex: 1, environment: [])
    }

    /// A machine whose command runs as pid 50 with a deadline at 100.
    static func running() -> GuardMachine {
        var machine = GuardMachine()
        _ = machine.order(start(one, 100), now: at(0))
        _ = machine.forked(pid: 50)
        _ = machine.executed()
        return machine
    }

    @Test func `start forks, then arms the deadline, then tells the exec`() {
        var machine = GuardMachine()
        #expect(
            machine.order(Self.start(Self.one, 100), now: Self.at(0)) == [
                .fork(Self.one, deadline: Self.at(100), commandIndex: 1, environment: [])
            ])
        #expect(machine.forked(pid: 50) == [.wake(at: Self.at(100))])
        #expect(machine.executed() == [.say(.started(Self.one, pid: 50))])
    }

    @Test func `the deadline itself is already too late`() {
        var machine = Self.running()
        #expect(machine.tick(now: Self.at(99)) == [])
        #expect(machine.tick(now: Self.at(100)) == [.say(.killing(Self.one, .deadline)), .kill])
        var fresh = GuardMachine()
        #expect(
            fresh.order(Self.start(Self.one, 100), now: Self.at(100)) == [
                .say(.notStarted(Self.one, .deadlinePassed)), .say(.empty(Self.one)),
            ])
    }

    @Test func `without a timer nothing lives`() {
        var machine = Self.running()
        #expect(machine.timerFailed() == [.say(.killing(Self.one, .timerFailed)), .kill])
        #expect(machine.timerFailed() == [])
        var idle = GuardMachine()
        #expect(idle.timerFailed() == [])
    }

    @Test func `what is left is told while its tree is killed, and before it is called empty`() {
        let left = [SeenProcess(pid: 60, state: 68, name: "left")]
        var machine = Self.running()
        #expect(machine.survivors(left) == [])
        _ = machine.reaped(pid: 50, status: 0)
        #expect(machine.survivors(left) == [.say(.surviving(Self.one, left))])
        #expect(
            machine.treeEmpty(leftBehind: (3, left)) == [
                .say(.leftBehind(Self.one, count: 3, left)), .say(.empty(Self.one)),
            ])
    }

    @Test func `an order read after the deadline finds the kill begun`() {
        var machine = Self.running()
        #expect(
            machine.order(.extend(Self.one, deadline: Self.at(500), token: 5), now: Self.at(100)) == [
                .say(.killing(Self.one, .deadline)), .kill, .say(.pong(token: 5)),
            ])
    }

    @Test(arguments: [1, 3]) func `an order for another start does nothing to this one`(_ other: UInt64) {
        var machine = GuardMachine()
        _ = machine.order(Self.start(Self.two, 100), now: Self.at(0))
        _ = machine.forked(pid: 50)
        let stranger = StartID(other)
        for isRunning in [false, true] {
            if isRunning { _ = machine.executed() }
            for order in [
                Order.signal(stranger, number: 15), .kill(stranger),
            ] {
                #expect(machine.order(order, now: Self.at(1)) == [], "\(order)")
            }
            // The keeper waits for an answer, but nothing is extended.
            let late = Order.extend(stranger, deadline: Self.at(500), token: 5)
            #expect(machine.order(late, now: Self.at(1)) == [.say(.pong(token: 5))])
        }
        #expect(machine.tick(now: Self.at(100)) == [.say(.killing(Self.two, .deadline)), .kill])
    }

    @Test func `the deadline also kills a child whose exec hangs`() {
        var machine = GuardMachine()
        _ = machine.order(Self.start(Self.one, 100), now: Self.at(0))
        _ = machine.forked(pid: 50)
        #expect(machine.tick(now: Self.at(100)) == [.say(.killing(Self.one, .deadline)), .kill])
        #expect(machine.executed() == [], "told as started after its kill")
    }

    @Test func `a failed exec is told, then waits for the emptiness`() {
        var machine = GuardMachine()
        _ = machine.order(Self.start(Self.one, 100), now: Self.at(0))
        _ = machine.forked(pid: 50)
        #expect(
            machine.executionFailed(.cannotExecute(errno: 2)) == [
                .say(.notStarted(Self.one, .cannotExecute(errno: 2))), .kill,
            ])
        #expect(machine.reaped(pid: 50, status: 127 << 8) == [], "told the exit of what never ran")
        #expect(machine.treeEmpty() == [.say(.empty(Self.one))])
    }

    @Test func `a failed fork is empty at once and leaves room for the next`() {
        var machine = GuardMachine()
        _ = machine.order(Self.start(Self.one, 100), now: Self.at(0))
        #expect(
            machine.forkFailed(.cannotFork(errno: 11)) == [
                .say(.notStarted(Self.one, .cannotFork(errno: 11))), .say(.empty(Self.one)),
            ])
        #expect(machine.order(Self.start(Self.two, 100), now: Self.at(0)).count == 1)
    }

    @Test func `only the command's own exit is told`() {
        var machine = Self.running()
        #expect(machine.reaped(pid: 51, status: 0) == [])
        #expect(
            machine.reaped(pid: 50, status: 7) == [
                .say(.killing(Self.one, .childExited)), .say(.exited(Self.one, ChildExit(waitStatus: 7))), .kill,
            ])
        #expect(machine.commandPid == nil, "a reaped pid may be somebody else's")
        #expect(machine.reaped(pid: 50, status: 8) == [], "the same pid again is another process")
        #expect(machine.order(.signal(Self.one, number: 15), now: Self.at(0)) == [])
    }

    @Test func `keeper gone or nonsense: kill, then leave; with nothing to kill, leave`() {
        var machine = Self.running()
        #expect(machine.keeperGone() == [.say(.killing(Self.one, .keeperGone)), .kill])
        #expect(machine.treeEmpty() == [.say(.empty(Self.one)), .leave])
        var idle = GuardMachine()
        #expect(idle.nonsense() == [.leave])
        var killing = Self.running()
        _ = killing.order(.kill(Self.one), now: Self.at(0))
        #expect(killing.nonsense() == [])
        #expect(killing.treeEmpty() == [.say(.empty(Self.one)), .leave])
    }

    @Test func `pings are answered in every state`() {
        var machine = Self.running()
        #expect(machine.order(.ping(token: 1), now: Self.at(0)) == [.say(.pong(token: 1))])
        _ = machine.order(.kill(Self.one), now: Self.at(0))
        #expect(machine.order(.ping(token: 2), now: Self.at(0)) == [.say(.pong(token: 2))])
    }

    @Test(arguments: 0..<300) func `keeps its promises under random events`(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var machine = GuardMachine()
        var now: Int64 = 0
        var living: Set<Int32> = []
        var pid: Int32 = 100
        var killing: StartID?
        var over: Set<StartID> = []
        var history: [String] = []
        for _ in 0..<200 {
            now += Int64.random(in: 0...20, using: &random)
            let generation = StartID(UInt64.random(in: 1...12, using: &random))
            let deadline = Self.at(now + Int64.random(in: -10...60, using: &random))
            var actions = machine.tick(now: Self.at(now))
            switch Int.random(in: 0...9, using: &random) {
            case 0, 1:
                actions += machine.order(
                    .start(generation, deadline: deadline, commandIndex: 1, environment: []), now: Self.at(now))
            case 2: actions += machine.order(.extend(generation, deadline: deadline, token: 5), now: Self.at(now))
            case 3: actions += machine.order(.kill(generation), now: Self.at(now))
            case 4: actions += machine.order(.signal(generation, number: 15), now: Self.at(now))
            case 5: actions += machine.executed()
            case 6: actions += machine.executionFailed(.cannotExecute(errno: 2))
            case 7:
                if let dead = living.randomElement(using: &random) {
                    living.remove(dead)
                    actions += machine.reaped(pid: dead, status: 0)
                }
            case 8: if living.isEmpty { actions += machine.treeEmpty() }
            default: if Int.random(in: 0...20, using: &random) == 0 { actions += machine.keeperGone() }
            }
            while !actions.isEmpty {
                let action = actions.removeFirst()
                history.append("\(now): \(action)")
                switch action {
                case .fork(let started, let deadline, _, _):
                    #expect(living.isEmpty && killing == nil && !over.contains(started), "\(history)")
                    #expect(deadline > Self.at(now), "\(history)")
                    pid += 1
                    living.insert(pid)
                    actions += machine.forked(pid: pid)
                case .signal(let target, _): #expect(living.contains(target) && killing == nil, "\(history)")
                case .wake: #expect(killing == nil, "a deadline set while killing: \(history)")
                case .say(.killing(let named, _)), .say(.notStarted(let named, .cannotExecute)): killing = named
                case .say(.extended), .say(.started): #expect(killing == nil, "\(history)")
                case .say(.empty(let named)):
                    #expect(living.isEmpty && over.insert(named).inserted, "\(history)")
                    killing = nil
                case .leave: #expect(living.isEmpty, "\(history)")
                default: break
                }
            }
            switch machine.state {
            case .starting(let start), .running(let start): #expect(start.deadline > Self.at(now), "\(history)")
            default: break
            }
        }
    }
}
