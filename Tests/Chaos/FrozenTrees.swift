// The one overlap that a frozen sidecar may have. docs/protocol.md ("What cannot be promised"): guard and child wake together,
// and the child runs until the guard's timer has fired, a moment later. Until then the next leader finds it alive.

import Clock
import TestSupport

/// The trees that were frozen together with their keeper and guard, and when.
struct FrozenTrees {
    /// How long such a tree may go on after the thaw: as long as a guard has for it otherwise, the margin.
    private static let moment = Fleet.ttl * 0.2

    private let trees: [String: RecordedTree]
    private let frozen: [(node: String, during: ClosedRange<Instant>)]

    init(_ faults: [FaultRecord], _ recording: Recording) {
        trees = Dictionary(recording.trees.map { ($0.id.lockName, $0) }) { first, _ in first }
        frozen = faults.compactMap { fault in fault.tookAll.map { (fault.target, $0) } }
    }

    /// Whether one of the two was frozen before the other was there, and both are seen alive no later than a moment after the
    /// thaw. What the lock's witness says may be the frozen one's own word.
    func excuses(_ both: BothAlive) -> Bool {
        [both.one, both.other].compactMap { trees[$0] }.contains { tree in
            frozen.contains { node, during in
                node == tree.node && tree.start <= during.lowerBound && during.lowerBound <= both.during.lowerBound
                    && both.during.upperBound <= during.upperBound + Self.moment
            }
        }
    }

    /// The same for a tree and one that started while it lived.
    func excuses(_ first: RecordedTree, _ second: RecordedTree) -> Bool {
        let end = min(first.last, second.last)
        return second.start <= end
            && excuses(BothAlive(one: first.id.lockName, other: second.id.lockName, during: second.start...end))
    }

    /// All such pairs.
    func overlaps(in recording: Recording) -> [(first: RecordedTree, second: RecordedTree)] {
        recording.trees.indices.flatMap { index in
            recording.trees[(index + 1)...].map { (recording.trees[index], $0) }.filter(excuses)
        }
    }
}
