// A leadership from its claim on: what a renewal grants (R2), when and how the next one is sent (R5), and how it goes
// on through another session (R6).

import Clock

extension LeaseMachine {
    /// The leadership; nil in another role. An assignment changes it in place, so no copy can be out of date.
    var leadership: Leadership? {
        get { if case .leading(let leadership) = role { leadership } else { nil } }
        set { if let newValue, case .leading = role { role = .leading(newValue) } }
    }

    mutating func change(_ change: (inout Leadership) -> Void) {
        guard case .leading(var leadership) = role else { return }
        change(&leadership)
        role = .leading(leadership)
    }

    /// A claim, or the renewal of our own record, succeeded.
    mutating func lead(
        _ epoch: Epoch, beat: Int64, fenced: Int, sentAt: Instant, through session: SessionID, at now: Instant,
        _ effects: inout [Action]
    ) {
        if epoch.isPlausible { highestEpoch = max(highestEpoch, epoch) }
        ownEpochs.leads(epoch)
        allowed(.take, at: now, &effects)
        reported = reported.intersection([.starving])
        auxiliaries.register(at: now)
        let purpose: Purpose = stopping == nil ? .run : .windDown(.exit(.stopped(killed: false)))
        role = .leading(
            Leadership(
                epoch: epoch, beat: beat, grantedAt: sentAt, deadline: deadline(sentAt: sentAt, at: now),
                renewAt: sentAt + timing.renewInterval, holds: session, standing: .held(purpose),
                tree: .none(startAt: now, since: now)))
        if fenced > 0 { report(.sessionsFenced(fenced), &effects) }
        loseIfExpired(at: now, &effects)
        giveUpIfStarved(at: now, &effects)
    }

    /// Sends a renewal, or first asks the guard.
    mutating func renew(at now: Instant, _ effects: inout [Action]) {
        guard case .idle(let session) = link, let leadership else { return }
        // No renewal on behalf of a guard that answers late: it would kill late (R5). Its next answer may be quicker.
        if !leadership.mayBeReleased, lateness.lastAnswer > timing.answerLimit { return askGuard(at: now, &effects) }
        let statement: Statement =
            leadership.holds == session
            ? .renew(leadership.epoch, ours: backends)
            : .resume(leadership.epoch, ours: backends, lock: lockDemand(until: leadership.deadline, at: now))
        send(statement, at: now, &effects)
    }

    /// R6: while more than half of the life is left, the leader waits for a lock that another session holds. Then it
    /// renews without the lock: the record still says that the lease is ours.
    private func lockDemand(until deadline: Instant, at now: Instant) -> LockDemand {
        now + timing.lifeWorthTheLock < deadline ? .needed : .waived
    }

    mutating func leaderGot(
        _ reply: Reply, sentAt: Instant, through session: SessionID, at now: Instant, _ effects: inout [Action]
    ) {
        guard let standing = leadership?.standing else { return }
        switch (standing, reply) {
        case (.held, .renewal(.renewed(let beat, let fenced))):
            renewed(beat: beat, fenced: fenced, sentAt: sentAt, through: session, at: now, &effects)
        case (.held, .renewal(.notOurs)): lose(.recordTaken, at: now, &effects)
        case (.held, .renewal(.lockBusy)):
            // A lock that another session holds is not a loss while the record names this sidecar (R6).
            reportOnce(.stranger, .lockHeldByStranger, &effects)
            let again = now + timing.lockRetryPause
            leadership?.renewAt = again
        case (.lost, .renewal(.renewed)): leadership?.holds = session
        case (.lost(_, let then), .done): unlocked(then, at: now)
        case (.releasing(let then), .released(let done)): released(done, then: then, at: now, &effects)
        default: break
        }
    }

    private mutating func renewed(
        beat: Int64, fenced: Int, sentAt: Instant, through session: SessionID, at now: Instant,
        _ effects: inout [Action]
    ) {
        guard var leadership else { return }
        if fenced > 0 { report(.sessionsFenced(fenced), &effects) }
        if leadership.holds != session { report(.resumed(leadership.epoch), &effects) }
        reported.remove(.stranger)
        leadership.beat = beat
        leadership.grantedAt = sentAt
        leadership.renewAt = sentAt + timing.renewInterval
        leadership.holds = session
        role = .leading(leadership)
        // The extension asks the guard, too: a renewal costs one round trip to it (R5).
        if guardian.hasAnswered, leadership.tree.living != nil { awaitAnswer(at: now) }
        grant(until: deadline(sentAt: sentAt, at: now), at: now, &effects)
        if guardian.hasAnswered { askGuard(at: now, &effects) }
    }

    /// Sets a new deadline, for the machine and for the guard. If it has already passed, the lease is lost.
    mutating func grant(until deadline: Instant, at now: Instant, _ effects: inout [Action]) {
        leadership?.deadline = deadline
        guard deadline > now else { return loseIfExpired(at: now, &effects) }
        guard let start = leadership?.tree.living else { return }
        effects.append(.order(.extend(start, deadline: deadline, token: lastToken)))
    }

    mutating func leaderFailed(at now: Instant, _ effects: inout [Action]) {
        switch leadership?.standing {
        case .held:
            let again = now + timing.renewRetryPause
            leadership?.renewAt = again
        case .releasing(let then): releaseFailed(then: then, at: now, &effects)
        // The unlock is still to be sent, or the session has been dropped for it.
        case .lost, nil: break
        }
    }

    mutating func leaderLostSession(_ id: SessionID, at now: Instant, _ effects: inout [Action]) {
        if leadership?.holds == id { leadership?.holds = nil }
        switch leadership?.standing {
        case .held:
            leadership?.renewAt = now
            if settings.killOnSessionLoss, leadership?.tree.start != nil { lose(.sessionLost, at: now, &effects) }
        case .releasing(let then): settle(then, at: now)
        case .lost, nil: break
        }
    }
}
