// What happens next: a heap of steps by simulated time. Steps of one time run in the order in which they were added, so that
// a seed is one run.

/// Nanoseconds of the simulated world, which no sidecar can read: each has only the clock of its host.
typealias Time = Int64

let millisecond: Time = 1_000_000

struct Agenda {
    typealias Step = () -> Void

    private struct Entry {
        let time: Time
        let order: Int
        let step: Step
    }

    private var heap: [Entry] = []
    private var added = 0

    var isEmpty: Bool { heap.isEmpty }

    mutating func removeAll() { heap.removeAll() }

    mutating func add(at time: Time, _ step: @escaping Step) {
        added += 1
        heap.append(Entry(time: time, order: added, step: step))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard isBefore(child, parent) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// The earliest step; nil when there is none left.
    mutating func next() -> (time: Time, step: Step)? {
        guard let last = heap.popLast() else { return nil }
        guard let first = heap.first else { return (last.time, last.step) }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, isBefore(child + 1, child) { child += 1 }
            guard isBefore(child, parent) else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return (first.time, first.step)
    }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        let (a, b) = (heap[left], heap[right])
        return a.time != b.time ? a.time < b.time : a.order < b.order
    }
}
