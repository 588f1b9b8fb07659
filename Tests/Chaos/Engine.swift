// Draws faults by chance and lets several happen at once. The seed decides which kinds, targets and times are drawn; what
// the machine makes of them is its own, so a seed repeats a plan and not a run.

import Clock
import Foundation
import Synchronization
import TestSupport

/// When a stage has had enough faults.
struct Share: Sendable {
    var faults: Int?
    var seconds: Double?
}

/// Carries out the faults of one stage.
final class Engine: Sendable {
    private static let atOnce = 4
    let log = FaultLog()
    private let kinds: [FaultKind]
    private let fleet: Fleet
    private let held = Mutex<[Int: [Claim]]>([:])

    init(_ kinds: [FaultKind], fleet: Fleet) {
        self.kinds = kinds
        self.fleet = fleet
    }

    /// Returns when the last fault is lifted.
    func run(_ share: Share, seed: UInt64, verbose: Bool) throws {
        var random = SeededGenerator(seed: seed)
        let start = BootClock.now()
        let end = share.seconds.map { start + .milliseconds(Int64($0 * 1000)) }
        func isOver(_ number: Int) -> Bool {
            (share.faults.map { number >= $0 } ?? false) || (end.map { BootClock.now() >= $0 } ?? false)
        }
        // Each kind once in any case, then by weight.
        var first = kinds.shuffled(using: &random)
        let urn = kinds.flatMap { Array(repeating: $0, count: $0.weight) }
        var number = 0
        var told = start
        while !isOver(number) {
            let kind = first.popLast() ?? urn.randomElement(using: &random) ?? kinds[0]
            number += 1
            try launch(number, kind, &random, verbose) { end.map { BootClock.now() >= $0 } ?? false }
            if BootClock.now().since(told) > .seconds(20) {
                told = BootClock.now()
                say(
                    "  \(number) faults in \(told.since(start).milliseconds / 1000) s, now \(fleet.leader?.name ?? "nobody") leads"
                )
            }
        }
        // A kind that found nobody to hit gets another chance, with the stage to itself.
        for _ in 1...2 {
            try settle()
            let sums = log.byKind()
            for kind in kinds where sums[kind.name].map({ $0.took == 0 }) ?? false {
                number += 1
                try? eventually("a leader", timeout: .seconds(20)) { fleet.leader != nil }
                try launch(number, kind, &random, verbose) { false }
                try settle()
            }
        }
    }

    /// Waits for the end of all faults.
    private func settle() throws {
        try eventually("every fault is lifted", timeout: .seconds(180)) { held.withLock { $0.isEmpty } }
    }

    /// Draws the rest, waits until the fault may begin, and lets it begin.
    private func launch(
        _ number: Int, _ kind: FaultKind, _ random: inout SeededGenerator, _ verbose: Bool, unless over: () -> Bool
    ) throws {
        let pause = Duration.milliseconds(Int64.random(in: 0...700, using: &random))
        let atLeader = Double.random(in: 0..<1, using: &random) < 0.7
        let any = fleet.nodes.randomElement(using: &random)
        let container = fleet.nodes.filter(\.container).randomElement(using: &random)
        let hold = Duration.milliseconds(
            Int64.random(in: Int64(kind.hold.lowerBound)...Int64(kind.hold.upperBound), using: &random))
        let dice = random.next()
        // Most wait for somebody to hit, so that the faults do not only keep each other company.
        let patience = Duration.seconds(dice % 4 == 0 && kind.aim != .leader ? 0 : 8)
        let notBefore = BootClock.now() + pause
        var fault: Fault?
        try eventually("fault \(number) \(kind.name) may begin", timeout: .seconds(240)) {
            if over() { return true }
            guard BootClock.now() >= notBefore else { return false }
            guard BootClock.now() >= notBefore + patience || fleet.leader != nil else { return false }
            let node: Node? =
                switch kind.aim {
                case .elsewhere: nil
                case .leader: fleet.leader ?? any
                case .container:
                    if atLeader, let leader = fleet.leader, leader.container { leader } else { container }
                case .node: if atLeader, let leader = fleet.leader { leader } else { any }
                }
            let needs = kind.needs.map { Claim(what: $0.what, shared: $0.shared, node: node?.name) }
            let free = held.withLock { held in
                guard held.count < Self.atOnce, held.values.allSatisfy({ !Self.conflict($0, needs) }) else {
                    return false
                }
                held[number] = needs
                return true
            }
            if free { fault = Fault(number: number, kind: kind, node: node, hold: hold, dice: dice) }
            return free
        }
        guard let fault else { return }
        log.begin(fault)
        startThread(kind.name) { [self] in
            let outcome: Outcome
            do { outcome = try kind.act(fault) } catch { outcome = .nothing("\(error)") }
            log.end(fault, outcome)
            if verbose, let record = log.all.first(where: { $0.number == number }) { say("  \(record)") }
            held.withLock { $0[number] = nil }
        }
    }

    private static func conflict(_ some: [Claim], _ others: [Claim]) -> Bool {
        some.contains { one in others.contains { one.conflicts(with: $0) } }
    }
}
