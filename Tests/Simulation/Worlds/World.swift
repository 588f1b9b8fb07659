// One simulated world: hosts with sidecars, one metastore, an agenda. Runs one seed: a time of faults, then peace, in which
// one child must come about within a bound; then the leader is taken away once more.

import Clock

@testable import GuardModel
@testable import Lease

/// How one seed ended.
struct Outcome {
    let seed: UInt64
    let violation: String?
    let starts: Int
    /// Those that took effect.
    let faults: [Profile.Family: Int]
    /// From the last fault to exactly one child, in parts of the longest TTL.
    let recovery: Double
    /// From the loss of a leader; nil where none was, or where somebody whose session cannot be ended sat on the lock, which
    /// costs three TTL more (R4).
    let takeover: Double?
    /// The smallest gap between two leaderships, in nanoseconds.
    let narrowest: Time?
    let simulated: Time
    let trees: Int
    /// Trees beyond what can be promised, and overlaps excused for that.
    let excused: (trees: Int, overlaps: Int)
}

/// Everything in a world refers to it without owning it: it outlives them all, and ends the agenda that keeps them alive.
final class World: Stage {
    let seed: UInt64
    let twin: Twin?
    private(set) var profile: Profile
    private(set) var hosts: [Host] = []
    /// The sidecar of each host, the last one started.
    private(set) var keepers: [Keeper] = []
    private var retired: [Keeper] = []
    var connections: [Connection] = []
    private(set) lazy var server = Server(world: self)
    private(set) lazy var judge = Judge(world: self)
    private(set) var starts = 0
    /// Sidecars of these hosts are not started again.
    var heldBack: Set<Int> = []

    // What the faults of the moment make likelier.
    var stalls = 0.0
    var failsForks = false
    var hasSlowExec = false
    var shortLives = false
    var failsAtOnce = false
    var stopsKillingGuards = false
    var spikes = 0.0
    var isCalm: Bool { profile.isCalm }
    var lastThaw: Time = -1_000_000_000_000
    var lastGuardFault: Time = -1_000_000_000_000
    /// Those that took effect.
    private(set) var faults: [Profile.Family: Int] = [:]
    /// Those that make something likelier for a while, and have not made a difference yet.
    private var pending: [Profile.Family: Int] = [:]
    private var steps = 0

    init(seed: UInt64, twin: Twin?, isTracing: Bool) {
        self.seed = seed
        self.twin = twin
        var random = Random(seed: seed)
        profile = Profile(random: &random, twin: twin)
        super.init(random: random, isTracing: isTracing)
    }

    var summary: String {
        "seed \(seed): \(profile.sidecars) sidecars, TTLs \(profile.ttls), families \(profile.families), clocks +-\(profile.partsPerMillion) ppm, "
            + "kill \(profile.killPart), \(profile.containers ? "containers" : "hosts")\(isCalm ? ", calm" : "")"
    }

    // MARK: Faults

    /// A fault has done something.
    func tookEffect(_ family: Profile.Family) { faults[family, default: 0] += 1 }

    /// A fault begins that may do something, or nothing, in its time.
    func expect(_ family: Profile.Family, for lasts: Time) {
        pending[family, default: 0] += 1
        after(lasts) { [self] in
            // The one before may have been taken for this one: one less is waited for in any case.
            if let left = pending[family] { pending[family] = left > 1 ? left - 1 : nil }
        }
    }

    /// What faults of that family make likelier has come about.
    func felt(_ family: Profile.Family) {
        guard !pending.isEmpty, let count = pending.removeValue(forKey: family) else { return }
        faults[family, default: 0] += count
    }

    // MARK: Time

    /// How long a message is on its way to or from that host.
    func delay(of host: Host, isReply: Bool) -> Time {
        let usual = random.time(profile.delay / 2, profile.delay * 3 / 2)
        var delay = usual
        if isReply { delay += host.replySlowness }
        if host.slowness > 0 { delay += random.time(0, host.slowness) }
        if spikes > 0, random.chance(spikes) { delay += random.time(0, 2 * profile.longestTTL) }
        if delay > usual { felt(.network) }
        return delay
    }

    // MARK: Sidecars

    private func startKeeper(on host: Host) {
        starts += 1
        guard let timing = try? Timing(ttl: profile.ttls[host.index]) else { return judge.blame("impossible timing") }
        let keeper = Keeper(world: self, host: host, number: starts, timing: timing)
        if host.index < keepers.count {
            retired.append(keepers[host.index])
            keepers[host.index] = keeper
        } else {
            keepers.append(keeper)
        }
    }

    /// The machine of that sidecar is copied as it runs, child and all, and both go on (a snapshot restored beside its
    /// original). False where it is not at rest with a running child.
    func copy(_ keeper: Keeper) -> Bool {
        guard keeper.isAtRest, let child = keeper.child, child.hasCommand, let leadership = keeper.leadership,
            case .held(.run) = leadership.standing
        else { return false }
        let host = Host(copying: keeper.host, index: hosts.count)
        hosts.append(host)
        profile.add(likeSidecar: keeper.host.index)
        starts += 1
        trace { "fault: the machine of \(keeper.name) is copied as \(host.index).\(self.starts)" }
        let copy = Keeper(copying: keeper, on: host, number: starts)
        keepers.append(copy)
        judge.copied(keeper, to: copy, until: host.time(of: leadership.deadline + keeper.timing.margin))
        copy.begin()
        return true
    }

    /// The engine's restart policy.
    func keeperEnded(_ keeper: Keeper) {
        guard keepers.contains(where: { $0 === keeper }) else { return }
        let host = keeper.host
        after(random.time(50 * millisecond, profile.longestTTL)) { [self] in restart(host) }
    }

    func restart(_ host: Host) {
        guard keepers[host.index].state == .dead, !heldBack.contains(host.index) else { return }
        guard !host.isSuspended else { return after(100 * millisecond) { [self] in restart(host) } }
        startKeeper(on: host)
    }

    // MARK: A run

    func run() -> Outcome {
        for index in 0..<profile.sidecars {
            let rate = random.chance(0.5) ? random.pick([-1, 1]) * profile.partsPerMillion : 0
            let between = rate == 0 ? random.time(-profile.partsPerMillion, profile.partsPerMillion) : rate
            hosts.append(
                Host(
                    index: index, partsPerMillion: between, offset: random.time(1_000_000_000, 900_000_000_000),
                    isContainer: profile.containers))
        }
        for host in hosts {
            after(random.time(0, profile.longestTTL / 2)) { [self] in
                while keepers.count <= host.index { startKeeper(on: hosts[keepers.count]) }
            }
        }
        let longest = profile.longestTTL
        let peace = schedule(from: longest * 2, over: longest * 6)
        advance(until: peace)
        // What went wrong may have done so before all were there.
        if judge.violation == nil { heal() }
        let bound = bound
        let recovery = waitForOneChild(within: bound, "after the last fault")
        var takeover: Time?
        if judge.violation == nil, hosts.count > 1, !isCalm {
            takeAwayLeader()
            takeover = waitForOneChild(within: bound, "after the leader was taken away")
        }
        return finish(recovery, takeover, peace: peace)
    }

    /// Until exactly one child must run after the last fault: a black-holed connect (0.8 TTL), a fresh watch (1 TTL, 2 % slow),
    /// a stranger's or half-open lock (1 TTL), a cool-down (2 TTL), one back-off or drain (1.5 TTL), the engine's restart (1).
    var bound: Time { profile.longestTTL * 8 }

    private func advance(until end: Time) {
        while judge.violation == nil, step(until: end) {
            steps += 1
            if steps > 5_000_000 { judge.blame("it does not come to rest") }
        }
    }

    private func waitForOneChild(within bound: Time, _ when: String) -> Time {
        let began = now
        let step = profile.shortestTTL / 10
        while judge.violation == nil, now < began + bound {
            advance(until: now + step)
            guard hasOneChild else { continue }
            let reached = now
            advance(until: now + profile.longestTTL / 2)
            if hasOneChild { return reached - began }
        }
        judge.blame("no child \(when), \(judge.trees.map(\.name)) alive")
        return bound
    }

    private var hasOneChild: Bool {
        let living = judge.trees.filter(\.isExecuting)
        return living.count == 1 && living[0].hasCommand && !heldBack.contains(living[0].host.index)
    }

    private func finish(_ recovery: Time, _ takeover: Time?, peace: Time) -> Outcome {
        // Nobody starves: every sidecar that can is in touch with the database.
        if judge.violation == nil {
            for keeper in keepers where keeper.isRunning && !heldBack.contains(keeper.host.index) {
                guard let status = keeper.machine?.snapshot(at: keeper.now) else { continue }
                // One that was late is unfit for a while, and in touch all the same.
                if status.role == .standby, case .outOfTouch = status.trouble, !isYoung(keeper, since: peace) {
                    judge.blame("\(keeper.name) is out of touch")
                }
            }
        }
        let longest = Double(profile.longestTTL)
        let outcome = Outcome(
            seed: seed, violation: judge.violation, starts: starts, faults: faults,
            recovery: Double(recovery) / longest,
            takeover: server.lockHolder?.isOutOfReach == true ? nil : takeover.map { Double($0) / longest },
            narrowest: judge.narrowest, simulated: now, trees: judge.endedTrees,
            excused: (judge.excusedTrees, judge.excusedOverlaps))
        close()
        // What refers to one another would outlive the world.
        for connection in connections { connection.forget() }
        for keeper in keepers + retired { keeper.forget() }
        return outcome
    }

    /// It has not reached the database yet, nor had the time to.
    private func isYoung(_ keeper: Keeper, since peace: Time) -> Bool {
        keeper.machine?.lastContact == nil && now - max(peace, keeper.startedAt) < 2 * keeper.ttl
    }
}
