// A schedule in the model: the simulation's guard with its kernel, on a stage of its own, and what comes of it.

import Clock
import Orders

@testable import Guard
@testable import GuardModel

final class ModelRun {
    private let schedule: Schedule
    private let timing: SlotTiming
    private let stage: Stage
    private let host: Host
    private let flaw: GuardFlaw?
    private lazy var guardian = ModelGuard(owner: self, stage: stage, host: host, flaw: flaw)
    private var trees: [ScriptedTree] = []
    private(set) var story = Story()
    private var isChannelClosed = false
    private var isEndTold = false
    private var wasKilled = false
    private var holdsNext = false
    private var held: ScriptedTree?

    /// What the model says of the schedule. Its time 0 is the schedule's begin.
    static func story(of schedule: Schedule, _ timing: SlotTiming, flaw: GuardFlaw?) -> Story {
        let run = ModelRun(schedule, timing, flaw)
        run.act()
        defer { run.stage.close() }
        return run.story
    }

    private init(_ schedule: Schedule, _ timing: SlotTiming, _ flaw: GuardFlaw?) {
        self.schedule = schedule
        self.timing = timing
        self.flaw = flaw
        stage = Stage(random: Random(seed: schedule.seed ^ 0x5EED), isTracing: false)
        host = Host(index: 0, partsPerMillion: 0, offset: SlotTiming.origin.nanoseconds, isContainer: false)
    }

    private func act() {
        guardian.begin()
        for (slot, steps) in schedule.slots.enumerated() {
            advance(until: timing.begin(ofSlot: slot) - 1)
            look(slot)
            advance(until: timing.begin(ofSlot: slot))
            holdsNext = false
            for step in steps {
                take(step)
                tellEnd()
            }
        }
        // A daemon outlives a killed guard: the keeper finds it there.
        let last = schedule.slots.count
        advance(until: timing.begin(ofSlot: last) - 1)
        look(last)
    }

    private func advance(until time: Time) {
        while stage.step(until: time) { tellEnd() }
    }

    private func tellEnd() {
        guard guardian.state == .dead, !isEndTold else { return }
        isEndTold = true
        tell(.ended(wasKilled ? WaitStatus.signal(9) : WaitStatus.code(0)))
    }

    private func tell(_ event: Event) { story.add(event, at: stage.now) }

    private func look(_ slot: Int) {
        var found: [String] = []
        for tree in trees {
            if tree.isBeforeExec || tree.isLingering { found.append(Sighting.child) }
            if tree.hasCommand { found.append(Sighting.command(tree.number)) }
            if tree.hasDaemons { found.append(Sighting.left(tree.number)) }
        }
        tell(.look(slot, Sighting.text(found)))
    }

    private func take(_ step: Step) {
        if let order = step.order(schedule, timing, origin: SlotTiming.origin, commands: 1) {
            return deliver(.order(order))
        }
        switch step {
        case .nonsense: deliver(.nonsense)
        case .hold: holdsNext = true
        case .release:
            held?.release()
            held = nil
        case .stopGuard: guardian.stop()
        case .continueGuard: guardian.resume()
        case .killGuard:
            wasKilled = guardian.state != .dead
            guardian.die()
        case .closeChannel(let entirely):
            isChannelClosed = entirely
            guardian.keeperEnded()
        default: break
        }
    }

    private func deliver(_ packet: ModelGuard.Packet) {
        guardian.receive(packet, sentAt: host.clock(at: stage.now))
    }
}

extension ModelRun: GuardOwner {
    var name: String { "model" }

    /// Nobody hears a guard whose channel is closed, and it says nothing itself once it knows.
    func said(_ answer: Answer) {
        if !isChannelClosed, !guardian.knowsKeeperGone { tell(.answer(answer)) }
    }

    func forkFailure(commandIndex: Int) -> Int32? { commandIndex == CommandIndex.noArgument ? 22 : nil }

    func makeTree(
        of guardian: ModelGuard, _ generation: StartID, deadline: Instant, commandIndex: Int, environment: [String]
    ) -> ProcessTree {
        let tree = ScriptedTree(
            guardian, generation.rawValue, deadline, schedule.conducts[generation.rawValue] ?? Conduct(), timing,
            isHeld: holdsNext
        ) { [unowned self] in tell(.ran(generation.rawValue)) }
        trees.append(tree)
        if holdsNext { held = tree }
        holdsNext = false
        return tree
    }

    func killTime() -> Time { 0 }
    func guardDied() {}
    func guardStateChanged() {}
}

/// A tree that does what the schedule says.
private final class ScriptedTree: ProcessTree {
    private let conduct: Conduct
    private let timing: SlotTiming
    private let isHeld: Bool
    private let told: () -> Void
    /// A signal that will take effect when the child comes to it.
    private var waiting: Int32?
    private var isEnding = false

    init(
        _ guardian: ModelGuard, _ number: UInt64, _ deadline: Instant, _ conduct: Conduct, _ timing: SlotTiming,
        isHeld: Bool, told: @escaping () -> Void
    ) {
        self.conduct = conduct
        self.timing = timing
        self.isHeld = isHeld
        self.told = told
        super.init(guardian: guardian, number: number, deadline: deadline)
    }

    override func executionTime() -> Time? { isHeld ? nil : 1000 }

    func release() {
        if let waiting, guardian.state != .dead { dieBeforeExec(status: WaitStatus.signal(waiting)) } else { execute() }
    }

    override func executionFailure() -> Int32? {
        switch conduct.execution {
        case .missing: 2
        case .directory: 13
        case .fine, .noArgument: nil
        }
    }

    override func began(isLate: Bool) {
        hasDaemons = conduct.leaves != .nothing
        told()
    }

    override func live() {
        if let (slots, death) = conduct.end { exitLater(timing.life(slots), status: death.status) }
    }

    override func signal(_ number: Int32) {
        if isBeforeExec {
            // All others are blocked until just before the exec.
            if number == 9 { dieBeforeExec(status: 9) } else { waiting = number }
            return
        }
        guard hasCommand else { return }
        guard number == 15 else { return killCommand(status: WaitStatus.signal(number)) }
        switch conduct.onTerm {
        case .dies: killCommand(status: WaitStatus.signal(15))
        case .ignores: break
        case .exits(let code, let slots):
            guard !isEnding else { return }
            isEnding = true
            exitLater(slots.map { timing.life($0) } ?? 0, status: WaitStatus.code(code))
        }
    }
}

extension Conduct.Death {
    var status: Int32 {
        switch self {
        case .code(let code): WaitStatus.code(code)
        case .signal(let number): WaitStatus.signal(number)
        }
    }
}
