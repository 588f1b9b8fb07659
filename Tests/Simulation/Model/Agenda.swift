// What happens next: a heap of steps by simulated time. Steps of one time run in the order in which they were added, so that
// a seed is one run.

/// Nanoseconds of the simulated world, which no sidecar can read: each has only the clock of its host.
typealias Time = Int64

let millisecond: Time = 1_000_000

/// Whoever is rung again and again for one and the same thing. Unlike a step, an alarm costs no memory.
protocol Alarmed: AnyObject {
    /// The alarm with that mark is due: only the last one that was set means anything.
    func ring(_ mark: Int)
}

struct Agenda {
    typealias Step = () -> Void

    fileprivate enum Work {
        case nothing
        case step(Step)
        case alarm(any Alarmed, mark: Int)
    }

    /// Without the step itself: what moves about in the heap should be cheap to move.
    private struct Entry {
        let time: Time
        let order: Int
        let slot: Int
    }

    private var heap: [Entry] = []
    private var works: [Work] = []
    private var freeSlots: [Int] = []
    private var added = 0

    mutating func removeAll() {
        heap.removeAll()
        works.removeAll()
        freeSlots.removeAll()
    }

    mutating func add(at time: Time, _ step: @escaping Step) { add(at: time, .step(step)) }

    mutating func add(at time: Time, ring alarmed: any Alarmed, mark: Int) {
        add(at: time, .alarm(alarmed, mark: mark))
    }

    private mutating func add(at time: Time, _ work: Work) {
        added += 1
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            works[slot] = work
        } else {
            slot = works.count
            works.append(work)
        }
        let entry = Entry(time: time, order: added, slot: slot)
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

    /// When the earliest step is due; nil when there is none left.
    var nextTime: Time? { heap.first?.time }

    /// Takes the earliest step out; it is the caller's to run what comes back, when the agenda may be added to again.
    mutating func next() -> Next? {
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
        var work = Work.nothing
        swap(&work, &works[first.slot])
        freeSlots.append(first.slot)
        return Next(work: work)
    }

    /// A step that has left the agenda.
    struct Next {
        fileprivate let work: Work

        func run() {
            switch work {
            case .nothing: break
            case .step(let step): step()
            case .alarm(let alarmed, let mark): alarmed.ring(mark)
            }
        }
    }

    private static func isBefore(_ left: Entry, _ right: Entry) -> Bool {
        left.time != right.time ? left.time < right.time : left.order < right.order
    }
}
