// Chaos with real processes: sidecars on hosts of their own around recording children, a real database behind a real
// network, and random faults, several at once. Judges what must hold whatever happens: never two children, and one again
// when the faults are over. Run by `make chaos`; needs root.

import ArgumentParser
import Clock
import Foundation
import TestSupport

@main
struct Chaos: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chaos", abstract: "Random faults against real sidecars.",
        subcommands: [Run.self, NameServerCommand.self],
        defaultSubcommand: Run.self)
}

enum StageName: String, CaseIterable, ExpressibleByArgument {
    case replicated, patroni, pgbouncer, all
}

struct Run: ParsableCommand {
    @Option(help: "How many faults, over all stages.") var faults: Int?
    @Option(help: "For how long, over all stages; without --faults 150 s.") var seconds: Double?
    @Option(help: "Draws the faults; random and printed when not given.") var seed: UInt64?
    @Option(help: "replicated, patroni, pgbouncer or all.") var stage = StageName.all
    @Option(help: "Only faults whose name has this in it; may be given several times.") var only: [String] = []
    @Flag(help: "TCP proxies instead of network namespaces, as where those are not permitted.") var proxies = false
    @Flag(help: "Tell each fault.") var verbose = false

    /// In which bound exactly one child must run after the last fault, from when the database can be reached.
    private static let recovery = Duration.seconds(20)
    /// In which bound it can be reached again: a crashed server recovers, Patroni finds a primary, a standby is made anew.
    private static let healing = Duration.seconds(180)

    func run() throws {
        let seed = seed ?? UInt64.random(in: 0..<1_000_000_000)
        say("seed \(seed): repeat with SEED=\(seed)")
        let checks = Checks()
        let workplace = try Workplace()
        defer { workplace.close() }
        let why = proxies ? "--proxies" : getuid() != 0 ? "they need root" : Network.whyNot(workplace)
        if let why { say("no network namespaces (\(why)): TCP proxies instead") }
        for (kinds, why) in ProcessFaults.leftOut { checks.skip(kinds, why) }
        let stages: [StageName] = stage == .all ? [.replicated, .patroni, .pgbouncer] : [stage]
        for name in stages {
            if why != nil && name != .replicated {
                checks.skip("\(name.rawValue)", "needs network namespaces")
            } else {
                run(name, workplace, checks, seed, stages.count, namespaces: why == nil)
            }
        }
        say(checks.line)
        if checks.failed {
            workplace.close()
            throw ExitCode.failure
        }
    }

    private func run(
        _ name: StageName, _ workplace: Workplace, _ checks: Checks, _ seed: UInt64, _ stages: Int, namespaces: Bool
    ) {
        say("\n--- \(name.rawValue)")
        let part = stages == 1 ? 1 : name == .replicated ? 0.5 : 0.25
        var share = Share(faults: faults.map { max(1, Int(Double($0) * part)) }, seconds: seconds.map { $0 * part })
        if faults == nil && seconds == nil { share.seconds = 150 * part }
        do {
            let stage: Stage
            switch name {
            case .patroni:
                if let missing = Self.missing(["patroni", "patronictl", "etcd"]) {
                    return checks.skip("patroni", "\(missing) is not installed")
                }
                stage = try Stages.patroni(workplace, checks)
            case .pgbouncer:
                if let missing = Self.missing(["pgbouncer"]) {
                    return checks.skip("pgbouncer", "\(missing) is not installed")
                }
                stage = try Stages.pgbouncer(workplace, checks)
            case .replicated, .all: stage = try Stages.replicated(workplace, checks, namespaces: namespaces)
            }
            defer { stage.close() }
            try eventually("a first child runs", timeout: .seconds(60)) { stage.fleet.livingTrees().count == 1 }
            let kinds = stage.kinds.filter { kind in only.isEmpty || only.contains { kind.name.contains($0) } }
            guard !kinds.isEmpty else { return checks.skip(name.rawValue, "it has none of these faults") }
            let engine = Engine(kinds, fleet: stage.fleet)
            do { try engine.run(share, seed: seed, verbose: verbose) } catch {
                checks.check("\(name.rawValue): every fault is lifted again", false, "\(error)")
            }
            recover(name, stage, checks)
            stage.close()
            Judge(
                stage: name.rawValue, fleet: stage.fleet, faults: engine.log.all, checks: checks,
                twoPrimaries: stage.twoPrimaries(), isGentle: !only.isEmpty, logs: stage.logs()
            ).judge(kinds: kinds)
        } catch {
            checks.check("\(name.rawValue): the stage is set", false, "\(error)")
        }
    }

    /// The first of these programs that is not here.
    private static func missing(_ programs: [String]) -> String? {
        programs.first { program in
            !["/usr/bin", "/usr/sbin", "/usr/local/bin"].contains {
                FileManager.default.isExecutableFile(atPath: "\($0)/\(program)")
            }
        }
    }

    /// One child, the same for two TTLs: not later after the last fault, or after the database can be reached again, than
    /// promised.
    private func recover(_ name: StageName, _ stage: Stage, _ checks: Checks) {
        let ended = BootClock.now()
        var lifted = ended
        var why = "not tried"
        do {
            try eventually("the database can be reached", timeout: Self.healing) {
                do { lifted = max(lifted, try stage.heal()) } catch {
                    why = "\(error)"
                    return false
                }
                return true
            }
            checks.check(
                "\(name.rawValue): the database can be reached \(lifted.since(ended).milliseconds) ms after the last fault",
                true)
        } catch {
            return checks.check("\(name.rawValue): the database can be reached again", false, "\(error): \(why)")
        }
        var since: (tree: Set<String>, at: Instant)?
        do {
            let rest = max(.seconds(1), Self.recovery - BootClock.now().since(lifted))
            try eventually("exactly one child, for two TTLs", timeout: rest + Fleet.ttl * 2) {
                let trees = stage.fleet.livingTrees()
                guard trees.count == 1, let tree = trees.keys.first else {
                    since = nil
                    return false
                }
                if since?.tree != tree { since = (tree, BootClock.now()) }
                return since.map { BootClock.now().since($0.at) > Fleet.ttl * 2 } ?? false
            }
            let after = since.map { $0.at.since(ended).milliseconds } ?? 0
            checks.check(
                "\(name.rawValue): exactly one child \(max(0, after)) ms after the last fault", true)
        } catch {
            checks.check(
                "\(name.rawValue): exactly one child within \(Self.recovery) after the last fault", false,
                "\(error); alive: \(stage.fleet.livingTrees())")
        }
    }
}
