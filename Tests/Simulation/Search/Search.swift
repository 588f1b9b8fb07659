// search: every world of two sidecars and so many faults, to the end. Where `simulate` draws worlds at random, this takes every
// step that may come next, remembers the states that it has been in, and ends when none is left. Then it breaks a rule and must
// find what comes of it.

import ArgumentParser
import Clock

@testable import Lease

@main
struct Search: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every interleaving of a small world: two sidecars, one lease, a bounded number of faults.",
        discussion: """
            Demanded of every state: never two trees alive, no child without a claim. Demanded of every end: without further \
            faults exactly one child runs within 4 TTL.
            """)

    @Option(help: "How many faults at most.") var faults = 1
    @Option(help: "How many seconds of the world's time (TTL 10 s) the faults may fall in.") var horizon = 22
    @Option(help: "How many milliseconds after the first the second sidecar starts.") var offset = 1300
    @Option(help: "Break only this rule, and search for what comes of it.") var broken: String?

    func validate() throws {
        guard (0...6).contains(faults), (1...600).contains(horizon), (0...60_000).contains(offset) else {
            throw ValidationError("--faults must be 0 to 6, --horizon 1 to 600, --offset 0 to 60000")
        }
        if let broken, Sabotage(rawValue: broken) == nil {
            let names = Sabotage.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("no rule is called \(broken); there are \(names)")
        }
    }

    func run() throws {
        var failed = 0
        var passed = 0
        if broken == nil {
            var walk = Walk(broken: nil, horizon: horizon)
            walk.begin(SmallWorld(faults: faults, offset: .milliseconds(offset), broken: nil))
            print(walk.summary)
            if let found = walk.found {
                print("FAIL \(found)")
                failed += 1
            } else {
                passed += 1
            }
        }
        for sabotage in Sabotage.allCases where broken == nil || broken == sabotage.rawValue {
            var found: String?
            var walk = Walk(broken: sabotage, horizon: horizon)
            // With as few faults as it takes.
            for count in 0...max(faults, 1) where found == nil {
                walk = Walk(broken: sabotage, horizon: horizon)
                walk.begin(SmallWorld(faults: count, offset: .milliseconds(offset), broken: sabotage))
                found = walk.found.map { "\(count) faults, \($0)" }
            }
            if let found {
                passed += 1
                print("ok   \(sabotage.rawValue): \(broken == nil ? found.prefix { $0 != "\n" } : found[...])")
            } else {
                failed += 1
                print("FAIL \(sabotage.rawValue): not found; \(walk.summary)")
            }
        }
        print("\(passed) passed, \(failed) failed")
        if failed > 0 { throw ExitCode.failure }
    }
}

/// The search, depth first.
struct Walk {
    let broken: Sabotage?
    let horizon: Int
    /// A state is remembered by 64 bits of hash: two that share them would be taken for one, which among ten million states
    /// happens once in 400,000 searches.
    private var seen: Set<Int> = []
    private var ends = 0
    private var steps = 0
    private var deepest = 0
    private var path: [(at: Instant, step: Step)] = []
    /// What must not be, with the steps that lead there.
    private(set) var found: String?
    private var endOfFaults = Instant(nanoseconds: .max)

    init(broken: Sabotage?, horizon: Int) {
        self.broken = broken
        self.horizon = horizon
    }

    var summary: String {
        "\(seen.count) states, \(steps) steps, \(ends) ends, at most \(deepest) steps deep"
    }

    mutating func begin(_ world: SmallWorld) {
        endOfFaults = world.now + .seconds(horizon)
        visit(world)
    }

    private mutating func visit(_ world: SmallWorld) {
        guard found == nil else { return }
        if let violation = world.violation { return report(violation) }
        guard seen.insert(world.hashValue).inserted else { return }
        deepest = max(deepest, path.count)
        guard world.now < endOfFaults else {
            ends += 1
            if let wrong = world.wrong(after: SmallWorld.timing.ttl * 4, broken) { report(wrong) }
            return
        }
        for step in world.steps() where found == nil {
            var next = world
            steps += 1
            path.append((world.now, step))
            next.take(step, broken)
            visit(next)
            path.removeLast()
        }
    }

    private mutating func report(_ what: String) {
        let told = path.map { "  \($0.at.nanoseconds / 1_000_000 - 1_000_000) ms: \($0.step)" }
        found = ([what] + told).joined(separator: "\n")
    }
}
