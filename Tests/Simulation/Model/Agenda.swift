// What happens next: a heap of steps by simulated time. Steps of one time run in the order in which they were added, so that
// a seed is one run.

/// Nanoseconds of the simulated world, which no sidecar can read: each has only the clock of its host.
typealias Time = Int64

let millisecond: Time = 1_000_000

struct Agenda {
    typealias Step = () -> Void

    /// Without the step itself: what moves about in the heap should be cheap to move.
    private struct Entry {
        let time: Time
        let order: Int
        let slot: Int
    }

    private var heap: [Entry] = []
    private var steps: [Step?] = []
    private var freeSlots: [Int] = []
    private var added = 0

    mutating func removeAll() {
        heap.removeAll()
        steps.removeAll()
        freeSlots.removeAll()
    }

    mutating func add(at time: Time, _ step: @escaping Step) {
        added += 1
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            steps[slot] = step
        } else {
            slot = steps.count
            steps.append(step)
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

    /// Takes the earliest step out.
    mutating func next() -> Step? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        defer {
            steps[first.slot] = nil
            freeSlots.append(first.slot)
        }
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
        return steps[first.slot]
    }

    private static func isBefore(_ left: Entry, _ right: Entry) -> Bool {
        left.time != right.time ? left.time < right.time : left.order < right.order
    }
}
