// What came of a schedule, in the model or in reality: told in the same words, so that the two can be laid side by side.

import Clock
import Orders

@testable import Guard
@testable import GuardModel

/// How long a slot is. All times of a schedule count from its begin, where the model's clock shows `origin`.
struct SlotTiming {
    let slot: Time

    static let origin = Instant(nanoseconds: 1_000_000_000_000)
    /// The same on every clock, and not as long ago on each.
    static let longAgo = Instant(nanoseconds: 1)

    /// Between any two things that do not happen together.
    var margin: Time { slot / 3 }

    func begin(ofSlot number: Int) -> Time { Time(number) * slot }

    /// From what made a command begin, or made it end, to its end.
    func life(_ slots: Int) -> Time { Time(slots) * slot + 2 * margin }

    func deadline(_ deadline: Deadline, origin: Instant) -> Instant {
        switch deadline {
        case .inSlot(let number): origin + .nanoseconds(begin(ofSlot: number) + margin)
        case .longAgo: Self.longAgo
        case .never: origin + .seconds(100_000)
        }
    }
}

enum Event {
    case answer(Answer)
    /// That start's command said that it runs.
    case ran(UInt64)
    /// The guard ended, with this wait status.
    case ended(Int32)
    /// What was alive just before that slot.
    case look(Int, String)
    /// Nobody but reality can tell it: something that must not be.
    case wrong(String)

    /// What belongs to one stream comes in one order, whatever the machine does.
    var stream: String {
        switch self {
        case .answer(.ready), .ended: "the guard"
        case .answer(.leftBehind), .answer(.surviving): "for people"
        case .answer(.pong), .answer(.strained): "pongs"
        case .answer(.extended(let generation, _, _)): "extensions of \(generation.rawValue)"
        case .answer(.started(let generation, _)), .answer(.notStarted(let generation, _)),
            .answer(.exited(let generation, _)), .answer(.killing(let generation, _)), .answer(.empty(let generation)):
            "start \(generation.rawValue)"
        case .ran(let number): "command \(number)"
        case .look: "looks"
        case .wrong: "wrongs"
        }
    }

    /// For counting.
    var kind: String {
        switch self {
        case .answer(.ready): "ready"
        case .answer(.pong): "pong"
        case .answer(.strained): "strained"
        case .answer(.extended): "extended"
        case .answer(.started): "started"
        case .answer(.notStarted(_, let reason)): "not started: \(reason)"
        case .answer(.exited(_, .code)): "exited"
        case .answer(.exited(_, .signal)): "exited by signal"
        case .answer(.killing(_, let cause)): "killing: \(cause)"
        case .answer(.empty): "empty"
        case .answer(.leftBehind): "left behind"
        case .answer(.surviving): "surviving"
        case .ran: "command runs"
        case .ended(let status): status == 0 ? "guard leaves" : "guard killed"
        case .look(_, let found): found == "nothing" ? "looks at nothing" : "looks at life"
        case .wrong: "wrong"
        }
    }

    /// What has to be the same; a pid is only the real guard's to give.
    func text(origin: Instant) -> String {
        switch self {
        case .answer(.ready): "ready"
        case .answer(.pong(let token)): "pong \(token)"
        // How late is nothing that two runs could agree about.
        case .answer(.strained): "strained"
        case .answer(.extended(let generation, SlotTiming.longAgo, _)): "extended \(generation.rawValue) to long ago"
        case .answer(.extended(let generation, let deadline, _)):
            "extended \(generation.rawValue) to \(deadline.since(origin).nanoseconds / 1000) us"
        case .answer(.started(let generation, _)): "started \(generation.rawValue)"
        case .answer(.notStarted(let generation, let reason)): "notStarted \(generation.rawValue) \(reason)"
        case .answer(.exited(let generation, let exit)): "exited \(generation.rawValue) status \(exit.waitStatus)"
        case .answer(.killing(let generation, let cause)): "killing \(generation.rawValue) \(cause)"
        case .answer(.empty(let generation)): "empty \(generation.rawValue)"
        case .answer(.leftBehind(let generation, _, _)): "left behind by \(generation.rawValue)"
        case .answer(.surviving(let generation, _)): "surviving \(generation.rawValue)"
        case .ran(let number): "command \(number) runs"
        case .ended(let status): "guard ends, status \(status)"
        case .look(let slot, let found): "look \(slot): \(found)"
        case .wrong(let what): "WRONG: \(what)"
        }
    }
}

/// The words for what is alive.
enum Sighting {
    /// Forked, and not yet the command. Whose it is cannot be seen.
    static let child = "child before exec"
    static func command(_ number: UInt64) -> String { "command \(number)" }
    static func left(_ number: UInt64) -> String { "left by \(number)" }
    static func text(_ found: [String]) -> String { found.isEmpty ? "nothing" : found.sorted().joined(separator: ", ") }
    /// Whether that command, and not one whose number begins with its, is among what was found.
    static func shows(_ text: String, command number: UInt64) -> Bool {
        text.split(separator: ", ").contains { $0 == command(number) }
    }
}

struct Story {
    struct Entry {
        let time: Time
        let event: Event
    }

    /// In the order in which they happened.
    private(set) var entries: [Entry] = []

    mutating func add(_ event: Event, at time: Time) { entries.append(Entry(time: time, event: event)) }

    var streams: [String: [Entry]] { Dictionary(grouping: entries) { $0.event.stream } }
}

/// Which of the worker's own arguments a start is to execute, counted from the first command among them.
enum CommandIndex {
    static let actor = 0
    static let missing = 1
    static let directory = 2
    /// Names none of them.
    static let noArgument = 99_999
}

extension Step {
    /// The order it is, if it is one.
    func order(_ schedule: Schedule, _ timing: SlotTiming, origin: Instant, commands: Int) -> Order? {
        switch self {
        case .ping(let token): return .ping(token: token)
        case .start(let number, let deadline):
            let conduct = schedule.conducts[number] ?? Conduct()
            return .start(
                StartID(number), deadline: timing.deadline(deadline, origin: origin),
                commandIndex: conduct.commandIndex(from: commands), environment: conduct.environment(number, timing))
        case .extend(let number, let deadline):
            return .extend(StartID(number), deadline: timing.deadline(deadline, origin: origin), token: 0)
        case .signal(let number, let signal): return .signal(StartID(number), number: signal)
        case .kill(let number): return .kill(StartID(number))
        default: return nil
        }
    }
}

extension Conduct {
    func commandIndex(from first: Int) -> Int {
        switch execution {
        case .fine: first + CommandIndex.actor
        case .missing: first + CommandIndex.missing
        case .directory: first + CommandIndex.directory
        case .noArgument: CommandIndex.noArgument
        }
    }

    /// What the actor (`Actor/main.c`) reads.
    func environment(_ number: UInt64, _ timing: SlotTiming) -> [String] {
        var variables = ["ACTOR_START=\(number)"]
        if leaves != .nothing { variables.append("ACTOR_LEAVES=\(leaves.rawValue)") }
        switch end {
        case (let slots, .code(let code))?:
            variables.append("ACTOR_ENDS=\(timing.life(slots) / millisecond) code \(code)")
        case (let slots, .signal(let number))?:
            variables.append("ACTOR_ENDS=\(timing.life(slots) / millisecond) signal \(number)")
        case nil: break
        }
        switch onTerm {
        case .dies: break
        case .ignores: variables.append("ACTOR_TERM=-1 0")
        case .exits(let code, let slots):
            variables.append("ACTOR_TERM=\((slots.map { timing.life($0) } ?? 0) / millisecond) \(code)")
        }
        return variables
    }
}
