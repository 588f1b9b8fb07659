// What a fault is: a kind, a target, a time, and evidence. A fault that did nothing proves nothing, so each looks whether it
// took effect, and the run fails where a kind did so too seldom.

import Clock
import Foundation
import Synchronization
import TestSupport

/// What a fault needs for itself. One waits until nobody has what it needs.
struct Claim: Sendable, Hashable {
    let what: String
    /// May be held by several that share it.
    let shared: Bool
    /// The node that it is meant for, where it is about one.
    var node: String?

    /// Nobody else may have it.
    static func only(_ what: String) -> Claim { Claim(what: what, shared: false) }
    /// Nobody may have it alone.
    static func with(_ what: String) -> Claim { Claim(what: what, shared: true) }

    func conflicts(with other: Claim) -> Bool {
        what == other.what && node == other.node && !(shared && other.shared)
    }
}

/// What became of a fault.
enum Outcome: Sendable {
    /// It did what it is for: how that was seen.
    case took(String)
    /// It did, and kept all of a sidecar from acting meanwhile, which is beyond the promise.
    case tookAll(String, during: ClosedRange<Instant>)
    /// It did nothing: there was nobody to hit, or nothing to see.
    case nothing(String)

    /// Took effect if that many are more than none.
    static func counted(_ count: Int, _ what: String) -> Outcome {
        count > 0 ? .took("\(count) \(what)") : .nothing("0 \(what)")
    }
}

/// One kind of fault in one stage.
struct FaultKind: Sendable {
    enum Aim: Sendable {
        /// Some node, the leader more often than others.
        case node
        /// The leader, where there is one.
        case leader
        /// A node that runs in a pid namespace.
        case container
        /// No node.
        case elsewhere
    }
    let name: String
    var weight = 2
    let aim: Aim
    /// For how long, in milliseconds.
    var hold = 800...6000
    /// What of the node, or of the stage when aimed elsewhere, it needs.
    let needs: [Claim]
    /// Of six tries and more, one in that many must take effect; of fewer, one. Other faults get in the way of some, but in no
    /// long run did a kind take effect in less than six of ten.
    var oneIn = 3
    let act: @Sendable (Fault) throws -> Outcome

    func least(of tries: Int) -> Int { tries < 6 ? 1 : max(1, tries / oneIn) }
}

/// One fault.
struct Fault: Sendable {
    let number: Int
    let kind: FaultKind
    let node: Node?
    let hold: Duration
    /// For its own decisions.
    let dice: UInt64

    /// Lasts as long as it shall. Calls `meanwhile` over and over.
    func last(meanwhile: () -> Void = {}) {
        let end = BootClock.now() + hold
        while BootClock.now() < end {
            meanwhile()
            usleep(10_000)
        }
    }

    func node(_ fleet: Fleet) throws -> (node: Node, sidecar: SidecarProcess) {
        guard let node, let sidecar = fleet[node] else { throw Failure("nobody to hit") }
        return (node, sidecar)
    }
}

/// A fault that is over, or under way.
struct FaultRecord: Sendable, CustomStringConvertible {
    let number: Int
    let kind: String
    let target: String
    let start: Instant
    var end: Instant?
    var outcome: Outcome?

    var took: Bool {
        switch outcome {
        case .took, .tookAll: true
        case .nothing, nil: false
        }
    }
    /// When the whole sidecar was kept from acting.
    var tookAll: ClosedRange<Instant>? { if case .tookAll(_, let during) = outcome { during } else { nil } }

    var description: String {
        let what =
            switch outcome {
            case .took(let how), .tookAll(let how, _): how
            case .nothing(let why): "NO EFFECT: \(why)"
            case nil: "under way"
            }
        return "\(number) \(kind) \(target): \(what)"
    }
}

/// All faults of a run, in order of their starts.
final class FaultLog: Sendable {
    private let records = Mutex<[Int: FaultRecord]>([:])

    func begin(_ fault: Fault) {
        records.withLock {
            $0[fault.number] = FaultRecord(
                number: fault.number, kind: fault.kind.name, target: fault.node?.name ?? "-", start: BootClock.now())
        }
    }
    func end(_ fault: Fault, _ outcome: Outcome) {
        records.withLock {
            $0[fault.number]?.end = BootClock.now()
            $0[fault.number]?.outcome = outcome
        }
    }
    var all: [FaultRecord] { records.withLock { $0.values.sorted { $0.number < $1.number } } }

    /// Kind by kind: tried and took effect.
    func byKind() -> [String: (tried: Int, took: Int)] {
        all.reduce(into: [:]) { sums, record in
            sums[record.kind, default: (0, 0)].tried += 1
            if record.took { sums[record.kind, default: (0, 0)].took += 1 }
        }
    }
}
