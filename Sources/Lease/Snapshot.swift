// What the machine can tell about itself, for the readiness file, the registry and the logs.

import Clock

/// A picture of the machine at one instant, for the readiness file, the registry and the logs.
public struct Status: Equatable, Sendable {
    public enum Role: String, Equatable, Sendable { case leader, standby, stopping }

    public var role: Role
    /// The epoch led in; nil for a standby.
    public var epoch: Epoch?
    /// What is wrong; nil for a leader whose child runs under a live lease, and for a standby that could take over.
    public var trouble: Trouble?
    /// Until when this picture may be believed: the leader's deadline, or a TTL after the last contact.
    public var validUntil: Instant
    /// There is a guard that is not condemned. Without one the sidecar is about to end, and must be restarted if it does not.
    public var isGuarded: Bool

    public var healthy: Bool { trouble == nil }
}

/// Why a sidecar is not healthy.
public enum Trouble: Equatable, Sendable {
    /// A standby without contact with the database for a TTL, or since its start; `reason` is the last failure's, for people.
    case outOfTouch(reason: String?)
    /// A standby whose claims are refused by PostgreSQL; `reason` is for people.
    case refused(reason: String)
    /// The guard does not answer or is gone.
    case guardUnavailable
    /// A standby that gets the processor too late, or has too much to kill, to hold a lease.
    case starved
    /// A leader whose command does not run, or is ending.
    case commandNotRunning
    case stopping
}

extension LeaseMachine {
    /// A picture of now.
    public func status(at now: Instant) -> Status {
        let contact = (lastContact ?? now) + timing.ttl
        let inTouch = lastContact != nil && now < contact
        let guarded: Bool
        switch guardian {
        case .unasked, .answered, .asked: guarded = true
        case .condemned, .fallen, .gone: guarded = false
        }
        switch role {
        case .standby:
            var trouble: Trouble?
            if let refusedBecause { trouble = .refused(reason: refusedBecause) }
            if !canHold { trouble = .starved }
            if !inTouch { trouble = .outOfTouch(reason: lastLoss) }
            if !guarded { trouble = .guardUnavailable }
            return Status(
                role: .standby, epoch: nil, trouble: trouble, validUntil: contact, isGuarded: guarded)
        case .leading(let leadership):
            var trouble: Trouble? = .commandNotRunning
            if case .held(.run) = leadership.standing, case .running = leadership.tree { trouble = nil }
            if !guarded { trouble = .guardUnavailable }
            var role = Status.Role.standby
            if case .held = leadership.standing { role = .leader }
            let ends = role == .leader ? leadership.deadline : contact
            return Status(
                role: role, epoch: leadership.epoch, trouble: trouble, validUntil: ends, isGuarded: guarded)
        case .leaving, .ended:
            return Status(role: .stopping, epoch: nil, trouble: .stopping, validUntil: now, isGuarded: guarded)
        }
    }
}
