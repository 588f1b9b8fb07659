// The judge of "never two": a tree is alive from the first to the last sign of life of any process in it, and no two
// trees may be alive at once. Two witnesses are heard: the intervals (10 ms fine, per process) and the kernel's lock
// that each tree holds while any process of it lives (exact, also for stopped processes, but only asked at a start).

import Clock

/// What is wrong with a recording.
public struct Overlap: Sendable, CustomStringConvertible {
    public let first: RecordedTree.ID
    public let second: RecordedTree.ID?
    public let description: String
}

/// When two trees were alive at once, as one of the witnesses saw it.
public struct BothAlive: Sendable {
    /// The earlier one, or the holder of the lock, by `RecordedTree.ID.lockName`.
    public let one: String
    /// The later one, or the one that did not get the lock.
    public let other: String
    /// One instant only, where the lock is the witness.
    public let during: ClosedRange<Instant>

    /// Two trees, by `RecordedTree.ID.lockName`.
    public init(one: String, other: String, during: ClosedRange<Instant>) {
        self.one = one
        self.other = other
        self.during = during
    }
}

/// Judges recordings.
public enum IntervalChecker {
    /// Every pair of trees that were alive at the same time, by either witness. Empty is what a test wants.
    /// - Parameters:
    ///   - exempt: trees whose overlap with others is beyond any process (keeper and guard both stopped).
    ///   - excused: whether two trees may have been alive at once then, for the same reason.
    public static func overlaps(
        in recording: Recording, exempt: Set<RecordedTree.ID> = [], excused: (BothAlive) -> Bool = { _ in false }
    ) -> [Overlap] {
        let trees = recording.trees
        var found: [Overlap] = []
        for (index, first) in trees.enumerated() where !exempt.contains(first.id) {
            for second in trees[(index + 1)...] where !exempt.contains(second.id) && second.start <= first.last {
                let end = min(first.last, second.last)
                if excused(BothAlive(one: first.id.lockName, other: second.id.lockName, during: second.start...end)) {
                    continue
                }
                let both = end.since(second.start)
                let last = first.processes.max { $0.last < $1.last }
                found.append(
                    Overlap(
                        first: first.id, second: second.id,
                        description: """
                            \(second.id) started at \(second.start.nanoseconds) while \(first.id) was alive until \
                            \(first.last.nanoseconds) (its \(last?.shape ?? "?") \(last?.pid ?? 0)): both for \(both)
                            """))
            }
            for process in first.processes {
                for intruder in process.intruders where !exempt.contains(where: { $0.lockName == intruder.who }) {
                    if excused(
                        BothAlive(one: intruder.who, other: first.id.lockName, during: intruder.at...intruder.at))
                    {
                        continue
                    }
                    found.append(
                        Overlap(
                            first: first.id, second: nil,
                            description: """
                                \(first.id) was running at \(intruder.at.nanoseconds) while the kernel held the lock of \
                                \(intruder.who): a process of it was still alive
                                """))
                    break
                }
            }
        }
        return found
    }

    /// Every tree whose epoch is lower than that of a tree before it, and every epoch that two instances ran in: as a
    /// fencing token an epoch must only grow and never repeat. Empty is what a test wants.
    public static func epochsThatDoNotGrow(in recording: Recording) -> [String] {
        var found: [String] = []
        for (before, after) in zip(recording.trees, recording.trees.dropFirst()) {
            guard let low = Int64(before.id.epoch), let high = Int64(after.id.epoch) else {
                found.append("not a number: \(before.id) or \(after.id)")
                continue
            }
            if high < low || (high == low && before.id.instance != after.id.instance) {
                found.append("\(after.id) after \(before.id)")
            }
        }
        return found
    }

    /// The longest time without any child between the first and the last sign of life, and after which tree.
    public static func longestGap(in recording: Recording) -> (duration: Duration, after: RecordedTree.ID)? {
        var longest: (Duration, RecordedTree.ID)?
        var latest: RecordedTree?
        for tree in recording.trees {
            if let before = latest {
                let gap = tree.start.since(before.last)
                if gap > (longest?.0 ?? .zero) { longest = (gap, before.id) }
            }
            if tree.last > (latest?.last ?? Instant(nanoseconds: .min)) { latest = tree }
        }
        return longest.map { (duration: $0.0, after: $0.1) }
    }
}
