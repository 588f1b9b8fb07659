// The standby's half: observe (R3), create a missing record (R10), take up its own record again (R9).

import Clock

extension LeaseMachine {
    /// The standby's state; nil in another role.
    var standby: Standby? { if case .standby(let standby) = role { standby } else { nil } }

    mutating func update(_ change: (inout Standby) -> Void) {
        guard case .standby(var standby) = role else { return }
        change(&standby)
        role = .standby(standby)
    }

    /// The record may have changed: read it as soon as the session is free.
    mutating func pollNow(at now: Instant) {
        update { standby in
            if case .observe = standby.intention { standby.intention = .observe(at: now) }
        }
    }

    mutating func poll(at now: Instant, _ effects: inout [Action]) {
        // The guard must be known to answer before a claim: ask it while the database is being asked.
        if guardian.hasAnswered { askGuard(at: now, &effects) }
        notifications.looked(at: now)
        send(.observe, at: now, &effects)
    }

    mutating func takeUpOwnRecord(_ epoch: Epoch, at now: Instant, _ effects: inout [Action]) {
        guard canHold else {
            let next = now + timing.renewInterval
            return update { $0.intention = .observe(at: next) }
        }
        send(.resume(epoch, ours: backends), at: now, &effects)
    }

    mutating func standbyGot(
        _ reply: Reply, to statement: Statement, sentAt: Instant, through session: SessionID, at now: Instant,
        _ effects: inout [Action]
    ) {
        switch reply {
        case .observed(let observation):
            allowed(.look, at: now, &effects)
            observed(observation, through: session, at: now, &effects)
        case .created:
            report(.recordCreated(wait: largestTTL), &effects)
            recordMade = true
            update { $0.intention = .observe(at: now) }
        case .claim(let reply): claimed(reply, sentAt: sentAt, through: session, at: now, &effects)
        case .renewal(.renewed(let beat, let fenced)):
            guard case .resume(let epoch, _, _) = statement else { return }
            effects.append(.report(.tookUpOwnRecord(epoch), epoch: epoch))
            auxiliaries.add(.historyBegin(epoch, ago: .zero, previousRenewedAgo: .zero), at: now)
            lead(epoch, beat: beat, fenced: fenced, sentAt: sentAt, through: session, at: now, &effects)
        case .renewal(.lockBusy):
            let again = now + timing.lockRetryPause
            update { standby in
                standby.ownBusySince = standby.ownBusySince ?? now
                standby.intention = .observe(at: again)
            }
        case .terminated(let count): terminated(count, at: now, &effects)
        case .renewal(.notOurs), .released, .done: update { $0.intention = .observe(at: now) }
        }
    }

    private mutating func observed(
        _ observation: Observation, through session: SessionID, at now: Instant, _ effects: inout [Action]
    ) {
        guard let record = observation.record else { return recordIsMissing(at: now, &effects) }
        recordMade = false
        // Another server behind the same session (behind a pooler) counts as another session.
        if let watch = standby?.watch, watch.server != observation.server { seen.restart(at: now) }
        let isOldCopy = seen.hasLaterEpoch(than: record)
        seen.note(record, at: now)
        largestTTL = seen.longestTTL(own: timing.ttl)
        if record.epoch.isPlausible { highestEpoch = max(highestEpoch, record.epoch) }
        if canHold {
            reported.remove(.unfit)
        } else {
            reportOnce(.unfit, .cannotHold(shortage(at: now)), &effects)
        }
        guard var standby else { return }
        // A sidecar that may not claim does not renew its own record either, because a renewal would keep others out.
        if isOwn(record, at: observation.server), canHold, now >= (standby.coolsUntil ?? now) {
            // A lock that stays busy is a stranger's. From then on this record is treated as any other, by R4.
            guard let busy = standby.ownBusySince, now >= busy + timing.ownRecordPatience else {
                return update { $0.intention = .resumeOwn(record.epoch) }
            }
        } else {
            standby.ownBusySince = nil
        }
        let watch = Watch.after(
            standby.watch, seeing: record, from: observation.server, through: session, age: observation.age,
            isOldCopy: isOldCopy, at: now)
        if watch.firstSeen == now {
            standby.lockBusySince = nil
            standby.lockWasTried = false
        }
        standby.watch = watch
        standby.intention =
            inTheWay(standby, of: watch, at: now) ?? .observe(at: now + pollPause(record, age: observation.age))
        role = .standby(standby)
        reportStanding(watch, at: now, &effects)
    }

    /// R9: only a record that this server itself took from one of our sessions. A record that merely names us was
    /// written by a person, or by a copy of this process.
    private func isOwn(_ record: Record, at server: ServerID) -> Bool {
        guard record.holder == settings.identity.instance, !record.released, record.server == server,
            let backend = record.backend, backends.contains(backend)
        else { return false }
        return ownEpochs.include(record)
    }

    /// R10. A record that was created and is still not visible is hidden from this role. It must not be created over
    /// and over.
    private mutating func recordIsMissing(at now: Instant, _ effects: inout [Action]) {
        guard recordMade else { return update { $0.intention = .create } }
        recordMade = false
        refused(.take, .recordHidden, lasting: false, at: now, &effects)
        let again = now + timing.failurePause
        update { $0.intention = .observe(at: again) }
    }

    private mutating func reportStanding(_ watch: Watch, at now: Instant, _ effects: inout [Action]) {
        let record = watch.record
        if record.suspended { return reportOnce(.suspension, .suspended, &effects) }
        reported.remove(.suspension)
        guard watch.firstSeen == now, watch.basis(at: now, largestTTL: largestTTL) == nil else { return }
        reported = reported.filter { if case .watching(let epoch) = $0 { epoch == record.epoch } else { true } }
        let wait = watch.patience(largestTTL: largestTTL)
        reportOnce(.watching(record.epoch), .standby(record, wait: wait), &effects)
    }

    /// The time until the next poll, which comes just after the holder's next renewal is due. So observation starts
    /// right after a renewal.
    private func pollPause(_ record: Record, age: Duration) -> Duration {
        guard record.holder != nil, !record.released else { return timing.renewInterval }
        let untilRenewal = record.renewInterval - age
        guard untilRenewal > .zero else { return timing.overduePollPause(holder: record.renewInterval) }
        return min(untilRenewal + timing.pollDelay, timing.renewInterval)
    }

    mutating func standbyFailed(_ statement: Statement, at now: Instant) {
        let pause = timing.failurePause
        update { standby in
            standby.claimPausesUntil = now + pause
            switch statement {
            // The lock may have been taken before the error. Session locks survive an error, and each of them counts
            // (R4).
            case .claim, .resume: standby.intention = .unlock
            default: standby.intention = .observe(at: now + pause)
            }
        }
    }
}
