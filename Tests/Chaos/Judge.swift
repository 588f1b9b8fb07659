// What every stage is judged by, and what it tells: one line a check, the faults by kind, the margins, the time without a
// child. A stage that fails says what was going on at that time.

import Clock
import Foundation
import Synchronization
import TestSupport

/// Prints a line at once: print(3) would keep it back where the output is a pipe.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    var done = 0
    while done < bytes.count {
        let count = bytes[done...].withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        done += count
    }
}

/// Counts checks. A skipped one is never a passed one.
final class Checks: Sendable {
    private let sums = Mutex((passed: 0, failed: 0, skipped: 0))

    func check(_ what: String, _ holds: Bool, _ why: @autoclosure () -> String = "") {
        say(holds ? "ok   \(what)" : "FAIL \(what): \(why())")
        sums.withLock { if holds { $0.passed += 1 } else { $0.failed += 1 } }
    }
    func skip(_ what: String, _ why: String) {
        say("skip \(what): \(why)")
        sums.withLock { $0.skipped += 1 }
    }
    var failed: Bool { sums.withLock { $0.failed > 0 } }
    /// Named, so that nobody who adds up counts takes it for a whole test run's.
    var line: String {
        sums.withLock {
            "chaos: \($0.passed) passed, \($0.failed) failed" + ($0.skipped > 0 ? ", \($0.skipped) skipped" : "")
        }
    }
}

/// One stage's recordings and faults.
struct Judge {
    let stage: String
    let fleet: Fleet
    let faults: [FaultRecord]
    let checks: Checks
    /// When two primaries accepted writes: beyond the promise.
    var twoPrimaries: [ClosedRange<Instant>] = []
    /// Of the faults there were, none need have ended a child.
    var isGentle = false
    /// What others than sidecars said.
    var logs: [(name: String, text: String)] = []

    /// All checks and all figures.
    func judge(kinds: [FaultKind]) {
        let recording = Recording(directory: fleet.recordings)
        let failedBefore = checks.failed
        let exempt = exempt(recording)
        let frozen = FrozenTrees(faults, recording)
        var held: [BothAlive] = []
        let overlaps = IntervalChecker.overlaps(in: recording, exempt: exempt) { both in
            guard !frozen.excuses(both) else { return true }
            // Only what the lock says: a process that still says something itself is not held.
            guard both.during.lowerBound == both.during.upperBound,
                fleet.slowDeaths.excuses(both.one, at: both.during.lowerBound)
            else { return false }
            held.append(both)
            return true
        }
        judgeTwoPrimaries(recording, exempt)
        judgeHeld(held)
        for pair in frozen.overlaps(in: recording) {
            say("     (beyond the promise: \(pair.first.id), frozen with its keeper and guard, and \(pair.second.id))")
        }
        let judged = recording.trees.count - exempt.count
        checks.check(
            "\(stage): \(judged) trees, no two alive at once", overlaps.isEmpty && judged > (isGentle ? 0 : 1),
            overlaps.isEmpty
                ? "hardly any trees, and \(exempt.count) that are not judged"
                : overlaps.prefix(3).map { "\($0)\n\(around($0, recording))\(sights($0, recording))" }.joined(
                    separator: "\n")
                    + (overlaps.count > 3 ? "\n  and \(overlaps.count - 3) more" : ""))
        let (epochs, excused) = epochsThatDoNotGrow(recording)
        checks.check("\(stage): epochs grow", epochs.isEmpty, "\(epochs)")
        if !excused.isEmpty {
            say(
                "     (\(excused.count) epochs were lost by a promotion after a clock ran ahead, and given again: \(excused))"
            )
        }
        checks.check(
            "\(stage): the recordings are sound", recording.nonsense.isEmpty, "\(recording.nonsense.prefix(5))")
        let traps = fleet.nodes.filter { node in
            ["Fatal error", "ThreadSanitizer"].contains { fleet[node]?.log.contains($0) ?? false }
        }
        checks.check("\(stage): no sidecar trapped", traps.isEmpty, "\(traps.map(\.name))")
        // Loses no more than a moment, but on a machine with many processes it would be lost again and again.
        checks.check("\(stage): no guard is killed that could answer", guardsLost.isEmpty, "\(guardsLost)")
        judgeEffects(kinds)
        tell(recording, frozen)
        if checks.failed && !failedBefore { tellAll(recording) }
    }

    /// What was beyond the promise is told with its evidence, and may not be much.
    private func judgeHeld(_ held: [BothAlive]) {
        let slow = fleet.slowDeaths.slow
        if !slow.isEmpty { say("     (\(slow.count) took over 500 ms to end when killed: \(slow.prefix(12)))") }
        guard !held.isEmpty else { return }
        for both in held {
            let at = both.during.lowerBound
            say("     (beyond the promise: killed, held by the kernel: \(both.one), when \(both.other) started")
            say(fleet.slowDeaths.evidence(both.one, at: at) + ")")
        }
        let trees = Set(held.map(\.one)).count
        checks.check("\(stage): \(trees) trees were held by the kernel", trees <= 2, "no more than 2 may be")
    }

    private func judgeEffects(_ kinds: [FaultKind]) {
        let sums = faults.reduce(into: [String: [FaultRecord]]()) { $0[$1.kind, default: []].append($1) }
        for kind in kinds {
            guard let records = sums[kind.name] else {
                checks.skip("\(stage): \(kind.name) takes effect", "not drawn in the time there was")
                continue
            }
            let took = records.count(where: \.took)
            // In a short run it may be that nobody led whenever one was drawn: not tried is not passed, and not failed. Of
            // many tries some must find somebody.
            if took == 0, records.count < 6, records.allSatisfy({ $0.description.contains("no tree on this node") }) {
                checks.skip("\(stage): \(kind.name) takes effect", "found no tree to hit in \(records.count) tries")
                continue
            }
            let least = kind.least(of: records.count)
            checks.check(
                "\(stage): \(kind.name) takes effect", took >= least,
                "\(took) of \(records.count) times, not \(least): "
                    + records.filter { !$0.took }.map(\.description).joined(separator: "; "))
        }
    }

    private func tell(_ recording: Recording, _ frozen: FrozenTrees) {
        say("\(stage): \(faults.count) faults, at most \(mostAtOnce) at once; sidecars: \(fleet.census)")
        say("  kind                          tried  took effect")
        let sums = faults.reduce(into: [String: (Int, Int)]()) {
            $0[$1.kind, default: (0, 0)].0 += 1
            if $1.took { $0[$1.kind, default: (0, 0)].1 += 1 }
        }
        for (kind, sum) in sums.sorted(by: { $0.key < $1.key }) {
            say("  \(kind.padding(toLength: 30, withPad: " ", startingAt: 0))\(pad(sum.0, 5))  \(pad(sum.1, 11))")
        }
        for record in faults where !record.took { say("  without effect: \(record)") }
        let claims = fleet.claims
        var gaps: [Duration] = []
        var margins: [String: [Duration]] = [:]
        var latest: RecordedTree?
        for tree in recording.trees {
            if let before = latest, !frozen.excuses(before, tree) {
                let gap = tree.start.since(before.last)
                gaps.append(max(.zero, gap))
                let way = before.id.instance == tree.id.instance ? "restarted" : claims[tree.id.epoch] ?? "expired"
                margins[way, default: []].append(gap)
            }
            if tree.last > (latest?.last ?? Instant(nanoseconds: .min)) { latest = tree }
        }
        let words = [
            "expired": "the next claimed a lease that ran out", "released": "the next claimed a released lease",
            "restarted": "the command was started again in place",
        ]
        for (way, all) in margins.sorted(by: { $0.key < $1.key }) {
            say("  worst margin, \(words[way] ?? way): \(milliseconds(all.min())) (of \(all.count))")
        }
        guard let first = recording.trees.first, let latest, !gaps.isEmpty else { return }
        gaps.sort()
        func quantile(_ share: Double) -> String {
            milliseconds(gaps[min(gaps.count - 1, Int(Double(gaps.count) * share))])
        }
        let without = gaps.reduce(Duration.zero, +)
        let all = latest.last.since(first.start)
        say(
            "  time without a child, \(gaps.count) gaps: min \(milliseconds(gaps.first)), p50 \(quantile(0.5)), p90 \(quantile(0.9)), "
                + "p99 \(quantile(0.99)), max \(milliseconds(gaps.last)); in all \(without.milliseconds * 100 / max(1, all.milliseconds)) % of \(all.milliseconds / 1000) s"
        )
    }

    private func milliseconds(_ duration: Duration?) -> String {
        guard let duration else { return "-" }
        let micros = duration.components.seconds * 1_000_000 + duration.components.attoseconds / 1_000_000_000_000
        return micros < 10_000 ? "\(Double(micros / 100) / 10) ms" : "\(micros / 1000) ms"
    }
    private func pad(_ number: Int, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - "\(number)".count)) + "\(number)"
    }

    /// The sidecars that lost their guard (exit code 80) although no fault was on that keeps a guard from answering, and the
    /// machine let everybody else run in time.
    private var guardsLost: [String] {
        let holding = faults.filter { fault in
            ["guard", "frozen", "starved", "busy"].contains { fault.kind.contains($0) }
        }
        return fleet.ends.filter { end in
            let before = (end.seen - Fleet.ttl)...end.seen
            return end.exit == .code(80) && !fleet.witness.stalled(longerThan: .milliseconds(40), during: before)
                && !holding.contains { fault in
                    [end.node, "-"].contains(fault.target) && fault.start < end.seen
                        && (fault.end ?? end.seen) + Fleet.ttl * 2 > end.seen
                }
        }.map { end in
            let during = faults.filter { $0.start < end.seen && ($0.end ?? end.seen) + Fleet.ttl > end.seen }
            return "\(end.node), during \(during.map { "\($0.kind) \($0.target)" }.joined(separator: ", "))"
        }
    }

    private var mostAtOnce: Int {
        faults.map { one in
            faults.count { $0.start <= one.start && ($0.end ?? one.start) >= one.start }
        }.max() ?? 0
    }

    /// Trees that lived while there were two primaries, or until a TTL later.
    private func exempt(_ recording: Recording) -> Set<RecordedTree.ID> {
        let windows = twoPrimaries.map { $0.lowerBound...($0.upperBound + Fleet.ttl) }
        return Set(
            recording.trees.filter { tree in windows.contains { $0.overlaps(tree.start...tree.last) } }.map(\.id))
    }

    /// What was beyond the promise is told all the same, and may not be much: else nothing would be judged. One moment of two
    /// primaries touches the tree before it and the one after it.
    private func judgeTwoPrimaries(_ recording: Recording, _ exempt: Set<RecordedTree.ID>) {
        guard !twoPrimaries.isEmpty else { return }
        let time = twoPrimaries.reduce(Duration.zero) { $0 + $1.upperBound.since($1.lowerBound) }
        let all = IntervalChecker.overlaps(in: recording).count
        say(
            "     (two primaries took writes for \(time.milliseconds) ms: \(exempt.count) trees of then are not judged, "
                + "\(all) overlaps in all)")
        let most = max(2, recording.trees.count / 4)
        checks.check(
            "\(stage): \(exempt.count) of \(recording.trees.count) trees are not judged", exempt.count <= most,
            "no more than \(most) may be")
    }

    /// As IntervalChecker does; but an epoch that was claimed while the database's clock was ahead, and then lost by a promotion
    /// that lost commits, is given again: the record that knew of it is gone. (Without the clock the milliseconds of the
    /// new claim are later than those of the lost one.)
    private func epochsThatDoNotGrow(_ recording: Recording) -> (bad: [String], excused: [String]) {
        let losses = faults.filter { $0.kind == "promotion with lost commits" || stage == "patroni" }
        let ahead = faults.filter { $0.kind == "clock an hour ahead" }.map(\.start).min()
        var bad: [String] = []
        var excused: [String] = []
        for (before, after) in zip(recording.trees, recording.trees.dropFirst()) {
            guard let low = Int64(before.id.epoch), let high = Int64(after.id.epoch) else {
                bad.append("not a number: \(before.id) or \(after.id)")
                continue
            }
            guard high < low || (high == low && before.id.instance != after.id.instance) else { continue }
            let lost = losses.contains { $0.start < after.start && ($0.end ?? after.start) > before.start }
            if lost, let ahead, ahead < after.start {
                excused.append("\(high) after \(low)")
            } else {
                bad.append("\(after.id) after \(before.id)")
            }
        }
        return (bad, excused)
    }

    /// What went on ten seconds before and after the beginning of the second tree.
    private func around(_ overlap: Overlap, _ recording: Recording) -> String {
        guard let at = recording.trees.first(where: { $0.id == overlap.second ?? overlap.first })?.start else {
            return ""
        }
        let (from, to) = (at - .seconds(10), at + .seconds(10))
        let during = faults.filter { $0.start < to && ($0.end ?? to) > from }
            .map { "    \(offset($0.start, at)) .. \($0.end.map { offset($0, at) } ?? "")  \($0)" }
        let trees = recording.trees.filter { $0.start < to && $0.last > from }.flatMap { tree in
            ["    \(offset(tree.start, at)) .. \(offset(tree.last, at))  \(tree.id) node \(tree.node)"]
                + tree.processes.map {
                    "        \(offset($0.start, at)) .. \(offset($0.last, at))  \($0.shape) \($0.pid) \($0.intruders.first?.who ?? "")"
                }
        }
        return "  faults (ms):\n\(during.joined(separator: "\n"))\n  trees (ms):\n\(trees.joined(separator: "\n"))"
    }
    /// What was seen of the processes that were told to die.
    private func sights(_ overlap: Overlap, _ recording: Recording) -> String {
        guard let tree = recording.trees.first(where: { $0.id == overlap.first }) else { return "" }
        return tree.processes.compactMap(\.intruders.first).first.map {
            "\n  of \($0.who), killed and still there (ms):\n" + fleet.slowDeaths.evidence($0.who, at: $0.at)
        } ?? ""
    }
    private func offset(_ instant: Instant, _ zero: Instant) -> String { "\(instant.since(zero).milliseconds)" }

    /// Everything, for a failed stage.
    private func tellAll(_ recording: Recording) {
        guard let zero = recording.trees.first?.start else {
            say("no child was ever started")
            return
        }
        say("  all faults (ms since the first child):")
        for record in faults {
            say("    \(offset(record.start, zero)) .. \(record.end.map { offset($0, zero) } ?? "")  \(record)")
        }
        for node in fleet.nodes { say("--- \(node.name):\n\(fleet.log(node))") }
        for log in logs { say("--- \(log.name):\n\(log.text)") }
    }
}
