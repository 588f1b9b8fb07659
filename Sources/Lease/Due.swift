// The one list of what the machine does by itself, and from when on. `handle` performs what is due, in this order,
// until nothing is due. `nextWake` tells when the next duty is due. So the loop can neither miss a duty nor repeat
// one forever.
//
// A duty is listed only while the machine can perform it. What prevents a duty is in the state, and an event changes
// it. Performing a duty changes the state, so that the duty is no longer due.

import Clock
import Orders

/// Something to do without an event.
enum Duty: Hashable, Sendable {
    // The guard (R5, R12).
    case askGuard
    case condemnGuard
    /// Exit although some processes cannot be killed.
    case abandon

    // A standby.
    case leave(Exit)
    case createRecord
    case terminateHolder(StrangerDemand)
    case takeUpOwnRecord(Epoch)
    case claim(LockDemand)
    case poll
    case rehearse

    // A leader.
    case loseByDeadline
    case killAfterGrace(StartID)
    case killHungStart(StartID)
    case startChild
    case endWithoutGuard
    case renew
    case release
    case settle(Afterwards)

    // Duties of every role that concern the session.
    case unlock
    case sendAuxiliary
    case register
    case openSession
    case end(Exit)
}

/// One reading of the list: the first duty that is due by an instant. If no duty is due, the instant of the next one.
struct Due {
    private let now: Instant
    private(set) var first: Duty?
    private(set) var next = Instant(nanoseconds: .max)

    init(by now: Instant) { self.now = now }

    mutating func add(_ duty: Duty, at instant: Instant) {
        if instant > now {
            next = min(next, instant)
        } else if first == nil {
            first = duty
        }
    }

    mutating func addNow(_ duty: Duty) { if first == nil { first = duty } }
}

extension LeaseMachine {
    /// When to call `handle(.tick)` at the latest, if nothing else happens before.
    public var nextWake: Instant {
        let due = due(by: Instant(nanoseconds: .min))
        return due.first == nil ? due.next : Instant(nanoseconds: .min)
    }

    func due(by now: Instant) -> Due {
        var due = Due(by: now)
        addGuardDuties(to: &due)
        switch role {
        case .standby(let standby): addDuties(of: standby, to: &due)
        case .leading(let leadership): addDuties(of: leadership, to: &due)
        case .leaving(let exit, let by):
            addDuties(leaving: exit, by: by, to: &due)
            return due
        case .ended: return Due(by: now)
        }
        if case .down(let retryAt, _) = link { due.add(.openSession, at: retryAt) }
        return due
    }

    private func addGuardDuties(to due: inout Due) {
        switch guardian {
        case .unasked: due.addNow(.askGuard)
        case .asked(_, _, let by): due.add(.condemnGuard, at: by)
        case .answered(let at):
            guard case .leading(let leadership) = role, leadership.tree.start != nil else { return }
            switch leadership.standing {
            // Asked even when no renewal succeeds: then its lateness matters most.
            case .held: due.add(.askGuard, at: at + timing.guardProbeInterval)
            // The guard may be stopped while it kills.
            case .lost: due.add(.askGuard, at: at + timing.patienceWithGuard)
            case .releasing: break
            }
        case .condemned, .fallen: if isStuck, stopping != nil, !isLeaving { due.addNow(.abandon) }
        case .gone: break
        }
    }

    private func addDuties(of standby: Standby, to due: inout Due) {
        if guardian == .gone || stopping != nil {
            // A claim under way may still succeed: then it has to be released.
            switch link {
            case .busy(_, .claim, _), .busy(_, .resume, _): return
            default: return due.addNow(.leave(guardian == .gone ? .guardLost : .stopped(killed: false)))
            }
        }
        guard case .idle = link else { return }
        switch standby.intention {
        case .create: due.addNow(.createRecord)
        case .unlock: due.addNow(.unlock)
        case .resumeOwn(let epoch): if guardian.hasAnswered { due.addNow(.takeUpOwnRecord(epoch)) }
        case .terminateHolder(let strangers): due.addNow(.terminateHolder(strangers))
        case .claimUnlocked: if guardian.hasAnswered { due.addNow(.claim(.waived)) }
        case .observe(let at):
            if let from = claimAllowed(standby, .needed) { due.add(.claim(.needed), at: from) }
            due.add(.poll, at: min(at, notifications.lookAt ?? at))
            if let rehearsalDue { due.add(.rehearse, at: rehearsalDue) }
            addAuxiliaryDuties(to: &due)
        }
    }

    private func addDuties(of leadership: Leadership, to due: inout Due) {
        var isHeld = false
        if case .held = leadership.standing {
            isHeld = true
            due.add(.loseByDeadline, at: leadership.deadline)
        }
        switch leadership.tree {
        case .draining(let start, let killAt): due.add(.killAfterGrace(start), at: killAt)
        case .starting(let start, let by): due.add(.killHungStart(start), at: by)
        case .none(let startAt, _): addDuties(of: leadership, withoutTree: startAt, to: &due)
        case .running, .dying, .fallen: break
        }
        guard isHeld, case .idle(let session) = link else { return }
        if leadership.mayBeReleased {
            // Only the session that last renewed may release (R7). So renew through the new session first.
            if leadership.holds == session {
                due.addNow(.release)
            } else {
                due.add(.renew, at: leadership.renewAt)
            }
        } else if guardian.hasAnswered {
            // No renewal on behalf of a guard that does not answer (R5).
            due.add(.renew, at: leadership.renewAt)
        }
        addAuxiliaryDuties(to: &due)
    }

    private func addDuties(of leadership: Leadership, withoutTree startAt: Instant, to due: inout Due) {
        switch leadership.standing {
        case .held(.run):
            if guardian == .gone { return due.addNow(.endWithoutGuard) }
            if guardian.hasAnswered { due.add(.startChild, at: startAt) }
        case .held(.windDown), .releasing: break
        case .lost(_, let then):
            switch link {
            case .down, .opening: due.addNow(.settle(then))
            case .idle: due.addNow(leadership.holds == nil ? .settle(then) : .unlock)
            case .busy: break
            }
        }
    }

    private func addDuties(leaving exit: Exit, by: Instant, to due: inout Due) {
        due.add(.end(exit), at: by)
        switch link {
        case .busy: break
        case .idle: due.addNow(auxiliaries.isEmpty ? .end(exit) : .sendAuxiliary)
        case .down, .opening: due.addNow(.end(exit))
        }
    }

    private func addAuxiliaryDuties(to due: inout Due) {
        if !auxiliaries.isEmpty {
            if let paused = auxiliaries.pausedUntil {
                due.add(.sendAuxiliary, at: paused)
            } else {
                due.addNow(.sendAuxiliary)
            }
        }
        due.add(.register, at: auxiliaries.registerAt)
    }

    /// Performs a duty that is due.
    mutating func perform(_ duty: Duty, at now: Instant, _ effects: inout [Action]) {
        switch duty {
        case .askGuard: askGuard(at: now, &effects)
        case .condemnGuard:
            report(.guardSilent, &effects)
            condemnGuard(&effects)
        case .abandon: abandon(at: now, &effects)
        case .leave(let exit): leave(exit, at: now)
        case .createRecord: send(.create(ttl: largestTTL, epochAbove: highestEpoch), at: now, &effects)
        case .terminateHolder(let strangers): terminateHolder(strangers, at: now, &effects)
        case .takeUpOwnRecord(let epoch): takeUpOwnRecord(epoch, at: now, &effects)
        case .claim(let lock): claim(lock, at: now, &effects)
        case .poll: poll(at: now, &effects)
        case .rehearse: send(.auxiliary(.rehearse), at: now, &effects)
        case .loseByDeadline: lose(.deadlinePassed, at: now, &effects)
        case .killAfterGrace(let start): killAfterGrace(start, &effects)
        case .killHungStart(let start): killHungStart(start, &effects)
        case .startChild: startChild(at: now, &effects)
        case .endWithoutGuard: planExit(.guardLost)
        case .renew: renew(at: now, &effects)
        case .release: release(at: now, &effects)
        case .settle(let then): settle(then, at: now)
        case .unlock: send(.unlock, at: now, &effects)
        case .sendAuxiliary: if let next = auxiliaries.next(at: now) { send(.auxiliary(next), at: now, &effects) }
        case .register: register(at: now, &effects)
        case .openSession: openSession(&effects)
        case .end(let exit): end(exit, &effects)
        }
    }
}
