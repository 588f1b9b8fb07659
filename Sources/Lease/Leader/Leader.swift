// The leader's half: renew (R5), resume (R6), lose, start and restart the child, release (R7).

import Clock

extension LeaseMachine {
    mutating func change(_ change: (inout Leadership) -> Void) {
        guard case .leading(var leadership) = role else { return }
        change(&leadership)
        role = .leading(leadership)
    }

    /// A claim, or the renewal of our own record, succeeded.
    mutating func lead(
        _ epoch: Epoch, beat: Int64, fenced: Int, sentAt: Instant, through session: SessionID, at now: Instant
    ) {
        if epoch.isPlausible { highestEpoch = max(highestEpoch, epoch) }
        ownEpochs.leads(epoch)
        allowed(.take, at: now)
        said = said.intersection([.starving])
        if fenced > 0 { report(.sessionsFenced(fenced)) }
        chores.register(at: now)
        let purpose: Purpose = stopping == nil ? .run : .windDown(.exit(.stopped(killed: false)))
        role = .leading(
            Leadership(
                epoch: epoch, beat: beat, grantedAt: sentAt, deadline: deadline(sentAt: sentAt, at: now),
                renewAt: sentAt + settings.timing.renewInterval, holds: session, standing: .held(purpose),
                tree: .none(startAt: now)))
        expire(at: now)
    }

    /// R1, R2: past the deadline the lease is lost, whatever comes in later. Looked at before every event.
    mutating func expire(at now: Instant) {
        guard case .leading(let leadership) = role, case .held = leadership.standing else { return }
        if now >= leadership.deadline { return lose(.deadlinePassed, at: now) }
        // A tree that is ending anyway is renewed until it has, if it can be.
        guard case .held(.run) = leadership.standing, isStarved(at: now) else { return }
        starve(leadership, at: now)
    }

    /// R2: killed now, while there is time, and renewed while it dies; then it is another node's turn.
    private mutating func starve(_ leadership: Leadership, at now: Instant) {
        report(.starved(shortage(at: now), pause: settings.timing.latenessWindow))
        change { $0.standing = .held(.windDown(.recover)) }
        switch leadership.tree {
        case .none, .dying, .fallen: break
        case .starting(let start, _), .running(let start), .draining(let start, _):
            kill(start, reason: "while it can still be dead in time", at: now)
        }
    }

    /// Kill now, keep session and lock until the tree is empty (R5).
    private mutating func lose(_ loss: Loss, at now: Instant) {
        guard case .leading(let leadership) = role, case .held(let purpose) = leadership.standing else { return }
        report(.lost(loss))
        chores.add(.historyEnd(leadership.epoch, reason: reason(loss)))
        var then = isLate(at: now) ? Afterwards.recover : .standBy
        if case .windDown(let planned) = purpose { then = planned }
        change { $0.standing = .lost(loss, then: then) }
        if let start = leadership.tree.start {
            actions.append(.order(.kill(start)))
            if case .dying = leadership.tree {} else { change { $0.tree = .dying(start, .killed) } }
            demandAnswer(at: now)
        }
    }

    mutating func pump(_ leadership: Leadership, at now: Instant) {
        switch leadership.tree {
        case .draining(let start, let killAt) where now >= killAt:
            kill(start, reason: "still running after the grace period", at: now)
            planExit(.stopped(killed: true))
        case .starting(let start, let by) where now >= by: startHung(start)
        case .none(let startAt): pumpEmpty(leadership, startAt: startAt, at: now)
        default: break
        }
        renewIfDue(at: now)
        guard case .leading(let leadership) = role, case .held = leadership.standing else { return }
        sendChores(leading: true, at: now)
    }

    private mutating func pumpEmpty(_ leadership: Leadership, startAt: Instant, at now: Instant) {
        switch leadership.standing {
        case .held(.run):
            if guardian == .gone { return planExit(.guardLost) }
            if guardian == .answering, now >= startAt { start(leadership, at: now) }
        case .held(.windDown): break
        case .releasing: break
        case .lost(_, let then):
            switch link {
            case .down, .opening: settle(then, at: now)
            case .idle: if leadership.holds == nil { settle(then, at: now) } else { send(.unlock, at: now) }
            case .busy: break
            }
        }
    }

    private mutating func start(_ leadership: Leadership, at now: Instant) {
        lastStart = StartID(lastStart.rawValue + 1)
        report(.starting(lastStart))
        actions.append(
            .order(.start(lastStart, deadline: leadership.deadline, epoch: leadership.epoch)))
        let start = lastStart
        let by = now + settings.startLimit
        change { $0.tree = .starting(start, by: by) }
    }

    /// The exec takes too long to be waited for: a failed start (71: EX_OSERR), with back-off like any failure of the child.
    private mutating func startHung(_ start: StartID) {
        report(.startHung(after: settings.startLimit))
        actions.append(.order(.kill(start)))
        change { $0.tree = .dying(start, .exited(.code(71))) }
    }

    private mutating func renewIfDue(at now: Instant) {
        guard case .leading(let leadership) = role, case .held(let purpose) = leadership.standing,
            case .idle(let session) = link
        else { return }
        if case .windDown(let then) = purpose, case .none = leadership.tree {
            if leadership.holds == session {
                ownEpochs.releaseSent(in: leadership.epoch)
                change { $0.standing = .releasing(then) }
                send(.release(leadership.epoch, beat: leadership.beat), at: now)
            } else if now >= leadership.renewAt {
                // Only the session that last renewed may release (R7): renew through this one first.
                send(.resume(leadership.epoch, ours: backends, lock: lockDemand(leadership, at: now)), at: now)
            }
            return
        }
        guard now >= leadership.renewAt else { return }
        // No renewal on behalf of a guard that does not answer (R5).
        guard guardian == .answering else { return }
        // Nor of one that answers late: it would kill late. Its next answer may be quicker.
        guard lateness.lastAnswer <= settings.timing.answerLimit else { return ask(at: now) }
        send(
            leadership.holds == session
                ? .renew(leadership.epoch, ours: backends)
                : .resume(leadership.epoch, ours: backends, lock: lockDemand(leadership, at: now)), at: now)
    }

    /// R6: a stranger on the lock is waited for during the first half of the life that is left. Then the lease is worth
    /// more than the lock: the record still says that it is ours.
    private func lockDemand(_ leadership: Leadership, at now: Instant) -> LockDemand {
        now + settings.timing.lifeWorthTheLock < leadership.deadline ? .needed : .waived
    }

    mutating func leaderGot(_ reply: Reply, sentAt: Instant, through session: SessionID, at now: Instant) {
        guard case .leading(let leadership) = role else { return }
        switch (leadership.standing, reply) {
        case (.held, .renewal(.renewed(let beat, let fenced))):
            renewed(leadership, beat: beat, fenced: fenced, sentAt: sentAt, through: session, at: now)
        case (.held, .renewal(.notOurs)):
            lose(.recordTaken, at: now)
        case (.held, .renewal(.lockBusy)):
            // Somebody else's lock is not a loss while the record still says us (R6).
            reportOnce(.stranger, .lockHeldByStranger)
            let again = now + settings.timing.lockRetryPause
            change { $0.renewAt = again }
        case (.lost(_, let then), .done):
            if case .none = leadership.tree { settle(then, at: now) }
        case (.lost, .renewal(.renewed)):
            change { $0.holds = session }
        case (.releasing(let then), .released(let done)):
            report(done ? .released : .releaseRefused)
            chores.add(.notify)
            chores.add(.historyEnd(leadership.epoch, reason: reason(then)))
            settle(then, at: now)
        default: break
        }
    }

    private mutating func renewed(
        _ leadership: Leadership, beat: Int64, fenced: Int, sentAt: Instant, through session: SessionID, at now: Instant
    ) {
        if fenced > 0 { report(.sessionsFenced(fenced)) }
        if leadership.holds != session { report(.resumed(leadership.epoch)) }
        said.remove(.stranger)
        let renewAt = sentAt + settings.timing.renewInterval
        change {
            $0.beat = beat
            $0.grantedAt = sentAt
            $0.renewAt = renewAt
            $0.holds = session
        }
        grant(until: deadline(sentAt: sentAt, at: now), at: now)
        if guardian == .answering { ask(at: now) }
    }

    mutating func leaderFailed(at now: Instant) {
        guard case .leading(let leadership) = role else { return }
        switch leadership.standing {
        case .held:
            let again = now + settings.timing.renewRetryPause
            change { $0.renewAt = again }
        case .releasing(let then):
            report(.releaseRefused)
            settle(then, at: now)
        // The unlock is still to be sent, or the session has been dropped for it.
        case .lost: break
        }
    }

    mutating func leaderLostSession(_ id: SessionID, at now: Instant) {
        guard case .leading(let leadership) = role else { return }
        if leadership.holds == id { change { $0.holds = nil } }
        switch leadership.standing {
        case .held:
            change { $0.renewAt = now }
            if settings.killOnSessionLoss, leadership.tree.start != nil { lose(.sessionLost, at: now) }
        case .releasing(let then): settle(then, at: now)
        case .lost: break
        }
    }

    /// The leadership is over and the tree is empty.
    private mutating func settle(_ then: Afterwards, at now: Instant) {
        switch then {
        case .standBy: role = .standby(.fresh(at: now))
        case .coolDown: role = .standby(.fresh(at: now, coolsUntil: now + settings.restarts.cooldown))
        case .recover: role = .standby(.fresh(at: now, coolsUntil: now + settings.timing.latenessWindow))
        case .exit(let exit): leave(exit, at: now)
        }
        chores.register(at: now)
    }

    private func reason(_ loss: Loss) -> String {
        switch loss {
        case .deadlinePassed: "lost: no renewal succeeded before the deadline"
        case .recordTaken: "lost: the record was changed or removed"
        case .sessionLost: "lost: the session with the database broke"
        }
    }

    private func reason(_ then: Afterwards) -> String {
        switch then {
        case .standBy: "released"
        case .coolDown: "released: the child failed too often"
        case .recover: "released: the processor came too late"
        case .exit(.stopped): "released: stopped"
        case .exit(.childEnded): "released: the child ended"
        case .exit(.cannotExecute): "released: the command cannot be executed"
        case .exit(.guardLost): "released: the guard died"
        case .exit(.loginsRefused): "released: every login was refused"
        }
    }
}
