// What kind of world a seed lives in: how many sidecars, how long their TTLs, how bad their clocks and network, and which
// families of faults come together. Narrow worlds find what wide ones hide.

import Clock
import Lease

@testable import GuardModel

struct Profile {
    enum Family: CaseIterable {
        case network, sessions, keepers, guards, hosts, children, server, failover, statements, wallClock, hands
        case operators, copies, crashes, starvation
    }

    let sidecars: Int
    /// One for each sidecar.
    private(set) var ttls: [Duration]
    let families: [Family]
    let faults: Int
    /// The largest deviation of a clock's rate.
    let partsPerMillion: Int64
    /// The usual delay of a message.
    let delay: Time
    /// The longest that killing a tree takes, as a part of the TTL; what is left of the margin pays for clock rates.
    let killPart: Double
    /// Only sessions break, the network is fast: nobody may lose its lease.
    let isCalm: Bool
    let containers: Bool
    /// Guards kill at once, and nothing but the network and clocks is at fault.
    let hasClocksOnly: Bool

    var longestTTL: Time { ttls.map(\.nanoseconds).max() ?? 0 }
    var shortestTTL: Time { ttls.map(\.nanoseconds).min() ?? 0 }

    /// One more sidecar, with the TTL of that one.
    mutating func add(likeSidecar index: Int) { ttls.append(ttls[index]) }

    init(random: inout Random, twin: Twin?) {
        isCalm = random.chance(0.06)
        hasClocksOnly = twin == .marginZeroByDriftAlone || twin == .marginZeroAlone
        sidecars = isCalm ? 2 : random.pick([2, 2, 3, 3, 4, 5, 6, 7])
        let usual: [Duration] = [.milliseconds(500), .seconds(1), .seconds(2), .seconds(3), .seconds(10)]
        let one = isCalm ? .seconds(5) : random.pick(usual)
        // Where a short TTL and a longer one meet, the longer one's pause between two polls is above half of the short one.
        let mixed = !isCalm && random.chance(twin == .idleTimeoutBelowTTL ? 0.9 : 0.3)
        var ttls: [Duration] = []
        for _ in 0..<sidecars { ttls.append(mixed ? random.pick([one, one * 3, .seconds(2)]) : one) }
        self.ttls = ttls
        let drifts = !random.chance(0.3)
        let shortest = ttls.map(\.nanoseconds).min() ?? 0
        let usualDelay = random.pick([millisecond / 5, millisecond, shortest / 100, shortest / 40])
        // Without the patience with a silent guard: 8 % of a TTL at most.
        let kill = random.pick([0.005, 0.04, 0.08])
        if hasClocksOnly {
            // Nothing may eat up a margin but the clocks: a message takes longer than a timer is late.
            partsPerMillion = twin == .marginZeroAlone ? 0 : 20_000
            delay = max(usualDelay, millisecond)
            killPart = 0
        } else {
            partsPerMillion = drifts ? 20_000 : 0
            delay = isCalm ? millisecond : usualDelay
            killPart = kill
        }
        containers = random.chance(0.3)
        if isCalm {
            families = [.sessions]
            faults = 4
        } else {
            var families: [Family] = []
            for _ in 0..<(1 + random.below(4)) { families.append(random.pick(Family.allCases)) }
            // The lock is there against hands: where there are none, its loss must do no harm.
            if twin == .noLock || twin == .releaseUncompared {
                families = families.map { $0 == .hands ? .network : $0 }
            }
            // Guards, keepers and machines that stop take time to kill as well.
            if hasClocksOnly { families = [.network] }
            if let family = twin?.showsUnder { families[0] = family }
            self.families = families
            faults = 2 + random.below(9)
        }
    }
}
