// What docs/protocol.md says of a guard, asked of reality alone: model and guard share one machine that decides (GuardMachine),
// and what that gets wrong they get wrong alike.

import Clock
import Guard
import Orders

@testable import GuardModel

enum Rules {
    /// What was broken, in words.
    static func broken(by story: Story, origin: Instant, _ schedule: Schedule, _ timing: SlotTiming) -> [String] {
        var watch = Watch(origin: origin, timing: timing)
        // Done first, at one and the same time: an order before its answer.
        var all: [(time: Time, what: Happening)] = []
        for (slot, steps) in schedule.slots.enumerated() {
            all += steps.map { (timing.begin(ofSlot: slot), .done($0)) }
        }
        for entry in story.entries {
            // A look comes before what is done in its slot.
            if case .look(let slot, _) = entry.event {
                all.append((timing.begin(ofSlot: slot) - 1, .told(entry.event)))
            } else {
                all.append((entry.time, .told(entry.event)))
            }
        }
        let ordered = all.enumerated().sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }
        for (_, (time, what)) in ordered {
            switch what {
            case .done(let step): watch.see(step)
            case .told(let event): watch.hear(event, at: time)
            }
        }
        return watch.broken
    }

    private enum Happening {
        case done(Step)
        case told(Event)
    }

    private struct Watch {
        let origin: Instant
        let timing: SlotTiming
        var broken: [String] = []
        /// How far each start has come in what may be said of it.
        private var stage: [UInt64: Stage] = [:]
        /// The latest that anybody asked for: nobody may live longer.
        private var latest: [UInt64: Instant] = [:]
        /// The earliest that can be in force: a start may be asked for twice, and one of the two refused.
        private var earliest: [UInt64: Instant] = [:]
        private var isStopped = false

        enum Stage: Int, Comparable {
            case running, notStarted, killing, exited, empty
            static func < (left: Stage, right: Stage) -> Bool { left.rawValue < right.rawValue }
        }

        init(origin: Instant, timing: SlotTiming) {
            self.origin = origin
            self.timing = timing
        }

        mutating func see(_ step: Step) {
            switch step {
            case .start(let number, let deadline), .extend(let number, let deadline):
                let instant = timing.deadline(deadline, origin: origin)
                // What is too late for a start that is being killed is refused, and must not count.
                guard stage[number] ?? .running < .killing else { return }
                latest[number] = max(latest[number] ?? instant, instant)
                if case .start = step, stage[number] == nil {
                    earliest[number] = min(earliest[number] ?? instant, instant)
                }
            // A stopped guard keeps nobody from living on; a killed one nobody but its command.
            case .stopGuard, .killGuard: isStopped = true
            case .continueGuard: isStopped = false
            default: break
            }
        }

        mutating func hear(_ event: Event, at time: Time) {
            let now = origin + .nanoseconds(time)
            switch event {
            case .answer(.started(let generation, _)): reach(.running, generation)
            case .answer(.notStarted(_, .treeAlive)), .answer(.notStarted(_, .stale)): break
            case .answer(.notStarted(let generation, _)): reach(.notStarted, generation)
            case .answer(.killing(let generation, let cause)):
                if cause == .deadline, let deadline = earliest[generation.rawValue], now < deadline {
                    broken.append("R1: \(generation.rawValue) is killed before its deadline")
                }
                reach(.killing, generation)
            case .answer(.exited(let generation, _)): reach(.exited, generation)
            case .answer(.empty(let generation)): reach(.empty, generation)
            case .answer(.extended(let generation, let deadline, _)):
                earliest[generation.rawValue] = deadline
                if deadline > latest[generation.rawValue] ?? deadline {
                    broken.append("R1: \(generation.rawValue) is extended beyond what was asked for")
                }
                if stage[generation.rawValue] ?? .running > .running {
                    broken.append("R1: \(generation.rawValue) is extended after its end began")
                }
            case .ran(let number): checkLife("\(number) begins", number, now)
            case .look(_, let found):
                guard !isStopped else { return }
                let alive = found.split(separator: ", ")
                for (number, _) in latest where alive.contains(Sighting.command(number)[...]) {
                    checkLife("\(number) lives", number, now)
                }
            default: break
            }
        }

        private mutating func checkLife(_ what: String, _ number: UInt64, _ now: Instant) {
            guard let deadline = latest[number], now > deadline else { return }
            broken.append("R1: \(what) \(now.since(deadline).milliseconds) ms after its deadline")
        }

        /// Answers about one start come in one order, each once.
        private mutating func reach(_ next: Stage, _ generation: StartID) {
            if let last = stage[generation.rawValue], last >= next {
                broken.append("R12: of \(generation.rawValue) \(next) is told after \(last)")
            }
            stage[generation.rawValue] = next
        }
    }
}
