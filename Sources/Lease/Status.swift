// What the machine can tell about itself: when it must be looked at again, and what the readiness file says.

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
        let contact = (lastContact ?? now) + settings.timing.ttl
        let inTouch = lastContact != nil && now < contact
        let guarded: Bool
        switch guardian {
        case .answering, .asked: guarded = true
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

    /// When to call `handle(.tick)` at the latest, if nothing else happens before.
    public var nextWake: Instant {
        var wake = Instant(nanoseconds: .max)
        func at(_ instant: Instant) { wake = min(wake, instant) }
        if case .asked(_, _, let by) = guardian { at(by) }
        if let askAgainAt { at(askAgainAt) }
        if let nextProbe { at(nextProbe) }
        var idle = false
        switch link {
        case .down(let retryAt, _): at(retryAt)
        case .idle: idle = true
        case .opening, .busy: break
        }
        switch role {
        case .standby(let standby): if idle, let next = self.wake(standby) { at(next) }
        case .leading(let leadership):
            if case .held(let purpose) = leadership.standing {
                at(leadership.deadline)
                var empty = false
                if case .none = leadership.tree { empty = true }
                if idle, guardian == .answering || (purpose != .run && empty) { at(leadership.renewAt) }
                if idle { at(chores.registerAt) }
            }
            switch leadership.tree {
            case .draining(_, let killAt): at(killAt)
            case .starting(_, let by): at(by)
            case .none(let startAt) where guardian == .answering && leadership.standing == .held(.run): at(startAt)
            default: break
            }
        case .leaving(_, let by): at(by)
        case .ended: break
        }
        return wake
    }
}
