// What happens next: steps and bells by simulated time. Those of one time come in the order in which they were added, so that a
// seed is one run.

/// Nanoseconds of the simulated world, which no sidecar can read: each has only the clock of its host.
typealias Time = Int64

let millisecond: Time = 1_000_000

/// Whoever has bells.
protocol Alarmed: AnyObject {
    /// That bell's time has come; it is not set any more.
    func ring(_ bell: Bell)
}

/// Rings at one time or not at all, again and again for one and the same thing: setting it forgets the time before. Unlike a
/// step it costs no memory, nor does a time that is forgotten. Its owner must outlive the agenda.
final class Bell {
    /// Who hears it; to be given before the bell is set.
    unowned(unsafe) var owner: (any Alarmed)?
    /// Where it is among those that are set.
    fileprivate var place = -1

    fileprivate var isSet: Bool { place >= 0 }
}

struct Agenda {
    typealias Step = () -> Void

    /// The place in the order of all that was ever added.
    typealias Turn = Int

    /// Without the step itself: what moves about in the heap should be cheap to move.
    private struct Entry {
        let time: Time
        let turn: Turn
        let slot: Int
    }

    private struct Due {
        let time: Time
        let turn: Turn
        let bell: Unmanaged<Bell>

        func isBefore(_ other: Due) -> Bool { time != other.time ? time < other.time : turn < other.turn }
    }

    private var heap: [Entry] = []
    private var steps: [Step?] = []
    private var freeSlots: [Int] = []
    /// The bells that are set, in no order: they are few, and most are set anew before they ring.
    private var bells: [Due] = []
    private var added = 0

    mutating func removeAll() {
        heap.removeAll()
        steps.removeAll()
        freeSlots.removeAll()
        for due in bells { due.bell._withUnsafeGuaranteedRef { $0.place = -1 } }
        bells.removeAll()
    }

    /// A turn to be used later: whatever is added from now on comes after it.
    mutating func takeTurn() -> Turn {
        added += 1
        return added
    }

    // MARK: Bells

    mutating func set(_ bell: Bell, at time: Time, turn: Turn) {
        let due = Due(time: time, turn: turn, bell: Unmanaged.passUnretained(bell))
        if bell.isSet {
            bells[bell.place] = due
        } else {
            bell.place = bells.count
            bells.append(due)
        }
    }

    mutating func clear(_ bell: Bell) {
        guard bell.isSet else { return }
        let place = bell.place
        bell.place = -1
        let last = bells.removeLast()
        guard place < bells.count else { return }
        bells[place] = last
        last.bell._withUnsafeGuaranteedRef { $0.place = place }
    }

    // MARK: Steps

    mutating func add(at time: Time, _ step: @escaping Step) {
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            steps[slot] = step
        } else {
            slot = steps.count
            steps.append(step)
        }
        let entry = Entry(time: time, turn: takeTurn(), slot: slot)
        heap.append(entry)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard Self.isBefore(entry, heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = entry
    }

    private mutating func popStep() -> Step? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty {
            var parent = 0
            while true {
                var child = 2 * parent + 1
                guard child < heap.count else { break }
                if child + 1 < heap.count, Self.isBefore(heap[child + 1], heap[child]) { child += 1 }
                guard Self.isBefore(heap[child], last) else { break }
                heap[parent] = heap[child]
                parent = child
            }
            heap[parent] = last
        }
        var step: Step?
        swap(&step, &steps[first.slot])
        freeSlots.append(first.slot)
        return step
    }

    private static func isBefore(_ left: Entry, _ right: Entry) -> Bool {
        left.time != right.time ? left.time < right.time : left.turn < right.turn
    }

    // MARK: What is next

    /// What has left the agenda, and is the caller's to run: the agenda may then be added to again.
    enum Next {
        case step(Step)
        case ring(Bell)

        func run() {
            switch self {
            case .step(let step): step()
            case .ring(let bell): bell.owner?.ring(bell)
            }
        }
    }

    /// Takes out the earliest, and its time, if it is due by `end`.
    mutating func next(by end: Time) -> (Time, Next)? {
        var earliest = 0
        for place in bells.indices.dropFirst() where bells[place].isBefore(bells[earliest]) { earliest = place }
        let first = heap.first
        if let due = bells.isEmpty ? nil : bells[earliest],
            first.map({ due.time != $0.time ? due.time < $0.time : due.turn < $0.turn }) ?? true
        {
            guard due.time <= end else { return nil }
            let bell = due.bell.takeUnretainedValue()
            clear(bell)
            return (due.time, .ring(bell))
        }
        guard let first, first.time <= end, let step = popStep() else { return nil }
        return (first.time, .step(step))
    }
}
