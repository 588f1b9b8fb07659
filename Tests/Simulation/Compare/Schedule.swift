// What is done to a guard, and what its commands do: one random schedule from one seed.
//
// Time is cut into slots, and each slot into thirds, so that nothing that happens can race with anything else: whatever is
// done to the guard is done at the beginning of a slot, deadlines lie one third into a slot, and commands end two thirds
// after whatever made them begin, which was the beginning of a slot. Inside one moment only what is read in any order with
// the same outcome is done together, or what a stopped guard finds all at once when it goes on.

import Orders

@testable import Guard
@testable import GuardModel

/// When a life is to end.
enum Deadline: Equatable {
    /// One third into that slot, counted from the begin of the schedule; may be past.
    case inSlot(Int)
    /// Before this machine was switched on.
    case longAgo
    case never

    fileprivate var slot: Int {
        switch self {
        case .inSlot(let number): number
        case .longAgo: -1
        case .never: .max
        }
    }
}

/// What a command does.
struct Conduct {
    enum Execution: CaseIterable { case fine, missing, directory, noArgument }
    enum Heritage: String { case nothing, child, daemon }
    enum Death: Equatable {
        case code(Int32)
        case signal(Int32)
    }
    enum Answer: Equatable {
        case dies
        case ignores
        /// So many slots, and two thirds, later; nil: at once.
        case exits(Int32, slots: Int?)
    }

    var execution = Execution.fine
    var leaves = Heritage.nothing
    /// So many slots, and two thirds, after its begin.
    var end: (slots: Int, Death)?
    var onTerm = Answer.dies
}

enum Step {
    case ping(UInt64)
    case start(UInt64, Deadline)
    case extend(UInt64, Deadline)
    case signal(UInt64, Int32)
    case kill(UInt64)
    case nonsense([UInt8])
    /// The child of a start of the same slot is held between fork and exec.
    case hold
    case release
    case stopGuard
    case continueGuard
    case killGuard
    /// The keeper's end of the channel: closed altogether, or only for writing, so that what is still said could be heard.
    case closeChannel(entirely: Bool)
}

struct Schedule {
    let seed: UInt64
    /// For each slot what is done at its beginning.
    private(set) var slots: [[Step]] = []
    /// By generation.
    private(set) var conducts: [UInt64: Conduct] = [:]

    init(seed: UInt64) {
        self.seed = seed
        var writer = Writer(random: Random(seed: seed))
        writer.write()
        slots = writer.slots
        conducts = writer.conducts
    }
}

extension Schedule {
    /// Makes the choices, and keeps apart what would race.
    private struct Writer {
        var random: Random
        var slots: [[Step]] = []
        var conducts: [UInt64: Conduct] = [:]
        private var newest: UInt64 = 0
        /// The start that probably is alive, and until which slot. Only so that most orders meet somebody.
        private var living: UInt64?
        private var livesUntil = 0
        private var tokens: UInt64 = 0
        private var isStopped = false
        /// A child is held, if there is one.
        private var isHeld = false
        private var isOver = false
        // Since when the guard reads everything at once: this slot, or all since it was stopped.
        private var begun: Set<UInt64> = []
        private var signalled: Set<UInt64> = []
        private var signalledForGood: Set<UInt64> = []
        private var hasKilled = false

        init(random: Random) { self.random = random }

        mutating func write() {
            let length = 4 + random.below(9)
            slots = [[start()]]
            while slots.count < length, !isOver { writeSlot() }
            guard !isOver else { return }
            if isStopped, random.chance(0.7) { slots.append([.continueGuard]) }
            slots.append([end()])
        }

        private mutating func writeSlot() {
            if !isStopped { forgetBatch() }
            slots.append([])
            if isHeld, random.chance(0.3) {
                isHeld = false
                return add(.release)
            }
            if random.chance(0.2) { return }
            if !isHeld, !isStopped, living == nil || livesUntil < slots.count, random.chance(0.1) {
                isHeld = true
                add(.hold)
                let slot = slots.count - 1
                let isFrozen = random.chance(0.4)
                add(start(isFrozen ? .inSlot(slot + 1) : nil))
                if isFrozen { thawChildFirst() }
                return
            }
            if !isStopped, random.chance(0.12) {
                if let living, random.chance(0.3) { return undoKill(of: living) }
                isStopped = true
                add(.stopGuard)
            } else if isStopped, random.chance(0.4) {
                if random.chance(0.5) { addOrder() }
                isStopped = false
                return add(.continueGuard)
            } else if random.chance(isStopped ? 0.08 : 0.04), signalled.isEmpty, begun.isEmpty {
                add(end())
                if isStopped, random.chance(0.8) { slots.append([.continueGuard]) }
                isOver = true
                return
            }
            var count = random.pick([1, 1, 1, 1, 2, 3])
            while count > 0 {
                addOrder()
                count -= 1
            }
        }

        /// Guard and child stand still across the deadline, and the child goes first: only its own look at the clock keeps it
        /// from its exec.
        private mutating func thawChildFirst() {
            slots += [[.stopGuard], [.release], []]
            slots.append([random.chance(0.8) ? .continueGuard : .killGuard])
            isHeld = false
            living = nil
            if case .killGuard? = slots[slots.count - 1].first { isOver = true }
        }

        /// An order that the guard finds behind the one to kill: nothing undoes a kill.
        private mutating func undoKill(of generation: UInt64) {
            slots[slots.count - 1] = [.stopGuard, .kill(generation)]
            slots.append([.extend(generation, .never), .continueGuard])
            living = nil
        }

        private mutating func forgetBatch() {
            begun = []
            signalled = []
            hasKilled = false
        }

        private mutating func add(_ step: Step) { slots[slots.count - 1].append(step) }

        /// How it all ends: nothing can be done to the guard any more.
        private mutating func end() -> Step {
            switch random.below(4) {
            case 0: return .killGuard
            case 1: return .nonsense(nonsense())
            case 2: return .closeChannel(entirely: true)
            default: return .closeChannel(entirely: false)
            }
        }

        /// Among them: an order that does not exist, a ping of another version, and a ping that is too long.
        private mutating func nonsense() -> [UInt8] {
            let mark = Array("SCG".utf8)
            let (version, ping): (UInt8, UInt8) = (Wire.version, 1)
            return random.pick([
                [0], mark, mark + [version, 0x7f], mark + [version + 1, ping] + Array("12345678".utf8),
                mark + [version, ping] + Array("123456789".utf8), [UInt8](repeating: 65, count: 100),
                [UInt8](repeating: 0, count: 70_000),
            ])
        }

        private mutating func addOrder() {
            if livesUntil < slots.count { living = nil }
            let choice = random.below(20)
            switch living == nil && choice >= 9 && random.chance(0.6) ? 3 : choice {
            case 0..<3:
                tokens += 1
                add(.ping(tokens))
            case 3..<(living == nil ? 9 : 5):
                // A guard that runs may be done with the kill, or with the exit, before it reads the start.
                let isQuiet = begun.isEmpty && signalled.isEmpty && !hasKilled
                if isQuiet || isStopped || begunIsSound { add(start()) }
            case 5..<13:
                let generation = someGeneration()
                if isStopped || (!signalled.contains(generation) && begunIsSound) {
                    var deadline = deadline(from: slots.count - 1)
                    // One that is past when it is read is an order to kill, and what holds for that holds for it.
                    let isPast = deadline.slot < slots.count - 1
                    if begun.contains(generation) ? isPast || isStopped : isPast && !begun.isEmpty { deadline = .never }
                    if isPast, deadline != .never { hasKilled = true }
                    if generation == living { livesUntil = max(livesUntil, deadline.slot) }
                    add(.extend(generation, deadline))
                }
            case 13..<16:
                let generation = someGeneration()
                guard !begun.contains(generation), !signalled.contains(generation),
                    !signalledForGood.contains(generation)
                else { return }
                signalled.insert(generation)
                // Two that wait for one held child would come in an order of the kernel's.
                if isHeld { signalledForGood.insert(generation) }
                add(.signal(generation, random.pick([15, 15, 15, 15, 9, 10, 1])))
            default:
                let generation = someGeneration()
                // Which of two deaths comes first is anybody's guess; so is how far a start has come.
                guard signalled.isEmpty, begun.isEmpty else { return }
                hasKilled = true
                if generation == living { living = nil }
                add(.kill(generation))
            }
        }

        /// What has been started since the guard last looked runs on: no exec that fails.
        private var begunIsSound: Bool {
            begun.allSatisfy { conducts[$0]?.execution == .fine } && !hasKilled && signalled.isEmpty
        }

        private mutating func someGeneration() -> UInt64 {
            if random.chance(0.85) { return living ?? newest }
            return max(1, newest &+ random.pick([1, UInt64.max, 5]))
        }

        private mutating func deadline(from slot: Int) -> Deadline {
            switch random.below(12) {
            case 0..<3: .inSlot(slot + random.below(2))
            case 3..<6: .inSlot(slot + 1 + random.below(4))
            case 6: .inSlot(slot - 1 - random.below(3))
            case 7: random.pick([.longAgo, .inSlot(slot - 1)])
            default: .never
            }
        }

        private mutating func start(_ given: Deadline? = nil) -> Step {
            var isStale = newest > 0 && random.chance(0.1)
            let older = 1 + UInt64(random.below(Int(max(newest, 1))))
            // Two answers about one start would come in no certain order.
            if begun.contains(older) { isStale = false }
            let generation = isStale ? older : newest + 1 + UInt64(random.below(2))
            let wanted = deadline(from: max(slots.count - 1, 0))
            let deadline = given ?? wanted
            if conducts[generation] == nil { conducts[generation] = conduct() }
            newest = max(newest, generation)
            if living == nil, !isStale, conducts[generation]?.execution == .fine {
                living = generation
                livesUntil = min(deadline.slot, slots.count + (conducts[generation]?.end?.slots ?? 1000))
            }
            begun.insert(generation)
            return .start(generation, deadline)
        }

        private mutating func conduct() -> Conduct {
            var conduct = Conduct()
            if random.chance(0.15) { conduct.execution = random.pick([.missing, .directory, .noArgument]) }
            conduct.leaves = random.pick([.nothing, .nothing, .child, .daemon, .daemon])
            if random.chance(0.4) {
                let code: Conduct.Death = .code(random.pick([0, 1, 3, 42, 127, 255]))
                conduct.end = (random.below(4), random.pick([code, code, .signal(random.pick([9, 15, 1, 10]))]))
            }
            switch random.below(4) {
            case 0: conduct.onTerm = .ignores
            case 1: conduct.onTerm = .exits(random.pick([0, 9]), slots: nil)
            case 2: conduct.onTerm = .exits(random.pick([0, 9]), slots: random.below(2))
            default: conduct.onTerm = .dies
            }
            return conduct
        }
    }
}
