// Faults of the links: partitions of every direction, flapping, slow and lossy links. Each counts the packets it hit.

import Clock
import Foundation
import TestSupport

enum NetworkFaults {
    /// Those that hit one sidecar's link.
    static func ofNodes(_ network: Network) -> [FaultKind] {
        func onLink(
            _ name: String, hold: ClosedRange<Int> = 800...6000,
            _ act: @escaping @Sendable (Fault, Host) throws -> Outcome
        )
            -> FaultKind
        {
            FaultKind(name: name, weight: 3, aim: .node, hold: hold, needs: [.only("link")]) { fault in
                guard let host = fault.node?.host else { return .nothing("no node") }
                return try act(fault, host)
            }
        }
        func cut(_ name: String, _ directions: [Network.Direction], share: Double? = nil) -> FaultKind {
            onLink(name) { fault, host in
                let cut = try network.cut(host, directions, share: share)
                defer { try? cut.lift() }
                fault.last()
                return .counted(try cut.packets(), network.hits)
            }
        }
        let flapping = onLink("flapping", hold: 2000...7000) { fault, host in
            var dropped = 0
            var random = SeededGenerator(seed: fault.dice)
            let end = BootClock.now() + fault.hold
            while BootClock.now() < end {
                let cut = try network.cut(host, [.into, .outOf])
                defer { try? cut.lift() }
                wait(.milliseconds(Int64.random(in: 100...900, using: &random)))
                dropped += try cut.packets()
                try cut.lift()
                wait(.milliseconds(Int64.random(in: 100...900, using: &random)))
            }
            return .counted(dropped, network.hits)
        }
        let slow = onLink("slow link", hold: 2000...8000) { fault, host in
            try network.slow(host)
            fault.last()
            return .counted(try network.unslow(host), network.hasNamespaces ? "packets waited" : "bytes were late")
        }
        return [
            cut("partition", [.into, .outOf]), cut("partition inbound", [.into]), cut("partition outbound", [.outOf]),
            flapping,
        ] + (network.hasNamespaces ? [cut("lossy link", [.into, .outOf], share: 0.3)] : [])
            + (network.slowness == nil ? [] : [slow])
    }

    /// The names of the hosts are looked up and nobody answers. Sessions are broken, so that there is a need to look up.
    static func ofNames(_ server: NameServer, sessions: @escaping @Sendable () throws -> Int) -> FaultKind {
        FaultKind(
            name: "name server hangs", aim: .elsewhere, hold: 2000...6000,
            needs: [.only("names"), .with("server")]
        ) { fault in
            try server.hang()
            defer { server.answer() }
            let before = server.counts
            _ = try sessions()
            fault.last()
            let after = server.counts
            guard after.answered == before.answered else {
                return .nothing("\(after.answered - before.answered) questions answered")
            }
            return .counted(after.withheld - before.withheld, "questions unanswered")
        }
    }
}

/// How long a part of a fault lasts is no synchronisation: nothing is hoped to have happened then.
func wait(_ duration: Duration) {
    let end = BootClock.now() + duration
    while BootClock.now() < end { usleep(5_000) }
}
