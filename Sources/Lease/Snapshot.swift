// What the machine can tell about itself, for the readiness file, the registry and the log.

import Clock

/// When a sidecar counts as ready.
public enum ReadyWhen: String, CaseIterable, Sendable {
    /// The leader with a running child, and standbys that could take over.
    case healthy
    /// Only the leader with a running child.
    case leader
}

/// A picture of the machine at one instant.
public struct Snapshot: Hashable, Sendable {
    public enum Role: Hashable, Sendable {
        case leader(Epoch)
        /// Also a leader that has lost the lease, until its tree is empty.
        case standby
        case stopping

        /// For programs; never changes.
        public var code: String {
            switch self {
            case .leader: "leader"
            case .standby: "standby"
            case .stopping: "stopping"
            }
        }
    }

    public var role: Role
    /// What is wrong; nil for a leader whose child runs under a live lease, and for a standby that could take over.
    public var trouble: Trouble?
    /// Why the sidecar is not ready; nil when it is. This need not be a trouble (`standsBy`).
    public var unready: Trouble?
    /// Until when this picture may be believed: the leader's deadline, or a TTL after the last contact.
    public var validUntil: Instant
    /// Whether the guard can be used. Without it the sidecar is about to exit, and must be restarted if it does not.
    public var isGuarded: Bool

    public var isHealthy: Bool { trouble == nil }
    public var isReady: Bool { unready == nil }

    /// The epoch of the leadership; nil for a sidecar that does not lead.
    public var epoch: Epoch? { if case .leader(let epoch) = role { epoch } else { nil } }
}

/// Why a sidecar is not healthy, or not ready.
public enum Trouble: Hashable, Sendable {
    /// A standby without contact with the database for a TTL, or since its start; `reason` is the last failure's, for
    /// people.
    case outOfTouch(reason: String?)
    /// A standby whose claims are refused by PostgreSQL.
    case refused(RefusalReason)
    /// The guard does not answer or is gone.
    case guardUnavailable
    /// A standby that has too little processor time, or too much to kill, to hold a lease.
    case starved
    /// A leader whose command does not run, or is ending.
    case commandNotRunning
    case stopping
    /// Nothing is wrong, but only a leader is to be ready.
    case standsBy

    /// For programs; never changes.
    public var code: String {
        switch self {
        case .outOfTouch: "out-of-touch"
        case .refused(let reason): reason.code
        case .guardUnavailable: "guard-unavailable"
        case .starved: "starved"
        case .commandNotRunning: "command-not-running"
        case .stopping: "stopping"
        case .standsBy: "stands-by"
        }
    }
}

extension LeaseMachine {
    /// A picture of now.
    public func snapshot(at now: Instant) -> Snapshot {
        let contact = (lastContact ?? now) + timing.ttl
        switch role {
        case .standby: return snapshot(.standby, standbyTrouble(at: now), until: contact)
        case .leading(let leadership):
            var trouble: Trouble? = .commandNotRunning
            if leadership.standing == .held(.run), case .running = leadership.tree { trouble = nil }
            guard case .held = leadership.standing else { return snapshot(.standby, trouble, until: contact) }
            return snapshot(.leader(leadership.epoch), trouble, until: leadership.deadline)
        case .leaving, .ended: return snapshot(.stopping, .stopping, until: now)
        }
    }

    private func standbyTrouble(at now: Instant) -> Trouble? {
        guard let lastContact, now < lastContact + timing.ttl else { return .outOfTouch(reason: lastLoss) }
        if !canHold { return .starved }
        return refusedBecause.map { .refused($0) }
    }

    private func snapshot(_ role: Snapshot.Role, _ found: Trouble?, until: Instant) -> Snapshot {
        var trouble = found
        if !isGuarded, role != .stopping { trouble = .guardUnavailable }
        var unready = trouble
        if case .leader = role {} else if settings.readyWhen == .leader { unready = trouble ?? .standsBy }
        return Snapshot(role: role, trouble: trouble, unready: unready, validUntil: until, isGuarded: isGuarded)
    }

    private var isGuarded: Bool {
        switch guardian {
        case .unasked, .answered, .asked: true
        case .condemned, .fallen, .gone: false
        }
    }
}
