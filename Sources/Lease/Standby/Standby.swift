// The standby's half: observe (R3), create a missing record (R10), claim (R4), take up its own record again (R9).

import Clock

extension LeaseMachine {
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

    mutating func pumpStandby(at now: Instant) {
        if guardian == .gone || stopping != nil {
            // A claim under way may still succeed: then it has to be released.
            switch link {
            case .busy(_, .claim, _), .busy(_, .resume, _): return
            default: return leave(guardian == .gone ? .guardLost : .stopped(killed: false), at: now)
            }
        }
        guard case .idle(let session) = link, case .standby(let standby) = role else { return }
        switch standby.intention {
        case .create: send(.create(ttl: largestTTL, epochAbove: highestEpoch), at: now)
        case .unlock: send(.unlock, at: now)
        case .resumeOwn(let epoch):
            guard guardian == .answering else { return }
            guard canHold else {
                let next = now + settings.timing.renewInterval
                return update { $0.intention = .observe(at: next) }
            }
            send(.resume(epoch, ours: backends), at: now)
        case .terminateHolder(let strangers):
            guard let watch = standby.watch else { return update { $0.intention = .observe(at: now) } }
            send(.terminateHolder(seen: watch.record, strangers: strangers), at: now)
        case .claimUnlocked:
            guard guardian == .answering else { return }
            // The pause after the claim that found the lock busy does not count: this is what follows from it.
            guard let watch = standby.watch, watch.session == session, now >= (standby.coolsUntil ?? now), canHold,
                watch.basis(at: now, largestTTL: largestTTL) == .expired
            else {
                return update { standby in
                    standby.lockWasTried = false
                    standby.intention = .observe(at: now)
                }
            }
            report(.lockWaived)
            send(.claim(seen: watch.record, epochAbove: highestEpoch, lock: .waived), at: now)
        case .observe(let at):
            if let watch = claimable(standby, session: session, at: now) {
                send(.claim(seen: watch.record, epochAbove: highestEpoch), at: now)
            } else if now >= min(at, notifications.lookAt ?? at) {
                // The guard must be known to answer before a claim: ask it while the database is being asked.
                if guardian == .answering { ask(at: now) }
                notifications.looked(at: now)
                send(.observe, at: now)
            } else if let rehearsalDue, now >= rehearsalDue {
                send(.auxiliary(.rehearse), at: now)
            } else {
                sendChores(leading: false, at: now)
            }
        }
    }

    /// The watch, if it allows a claim now and nothing else speaks against it.
    private func claimable(_ standby: Standby, session: SessionID, at now: Instant) -> Watch? {
        guard let watch = standby.watch, watch.session == session, guardian == .answering, canHold,
            now >= (standby.coolsUntil ?? now), now >= (standby.claimPausesUntil ?? now),
            watch.basis(at: now, largestTTL: largestTTL) != nil
        else { return nil }
        return watch
    }

    /// When `pump` has to look again, given an idle session.
    func wake(_ standby: Standby) -> Instant? {
        guard case .observe(let at) = standby.intention else { return nil }
        var wake = min(at, chores.registerAt, notifications.lookAt ?? at, rehearsalDue ?? at)
        // Only a watch through this session allows a claim (R3): for another's there is nothing to wake for.
        if let watch = standby.watch, watch.session == link.session, !watch.record.suspended, guardian == .answering,
            canHold
        {
            var claimAt = watch.expiry(largestTTL: largestTTL)
            if watch.isReleased { claimAt = watch.firstSeen }
            claimAt = max(claimAt, standby.coolsUntil ?? claimAt, standby.claimPausesUntil ?? claimAt)
            wake = min(wake, claimAt)
        }
        return wake
    }

    mutating func standbyGot(
        _ reply: Reply, to statement: Statement, sentAt: Instant, through session: SessionID, at now: Instant
    ) {
        switch reply {
        case .observed(let observation):
            allowed(.look, at: now)
            observed(observation, through: session, at: now)
        case .created:
            report(.recordCreated(wait: largestTTL))
            recordMade = true
            update { $0.intention = .observe(at: now) }
        case .claim(let reply): claimed(reply, sentAt: sentAt, through: session, at: now)
        case .renewal(.renewed(let beat, let fenced)):
            guard case .resume(let epoch, _, _) = statement else { return }
            report(.tookUpOwnRecord(epoch))
            chores.add(.historyBegin(epoch, previousRenewedAgo: .zero))
            lead(epoch, beat: beat, fenced: fenced, sentAt: sentAt, through: session, at: now)
        case .renewal(.lockBusy):
            let again = now + settings.timing.lockRetryPause
            update { standby in
                standby.ownBusySince = standby.ownBusySince ?? now
                standby.intention = .observe(at: again)
            }
        case .terminated(let count):
            if count > 0 { report(.holdersTerminated(count)) } else { reportOnce(.stranger, .lockHeldByStranger) }
            let pause = count > 0 ? settings.timing.terminationPause : settings.timing.failurePause
            update { standby in
                // First look again: the record may have moved meanwhile, and then the watch starts anew.
                standby.claimPausesUntil = now + pause
                standby.lockWasTried = false
                standby.intention = .observe(at: now)
            }
        case .renewal(.notOurs), .released, .done: update { $0.intention = .observe(at: now) }
        }
    }

    private mutating func observed(_ observation: Observation, through session: SessionID, at now: Instant) {
        guard case .standby(var standby) = role else { return }
        guard let record = observation.record else { return recordIsMissing(at: now) }
        recordMade = false
        // Another server behind the same session (a pooler's doing) is as good as another session.
        if let watch = standby.watch, watch.server != observation.server { seen.restart(at: now) }
        let isOldCopy = seen.hasLaterEpoch(than: record)
        seen.note(record, at: now)
        largestTTL = seen.longestTTL(own: settings.timing.ttl)
        if record.epoch.isPlausible { highestEpoch = max(highestEpoch, record.epoch) }
        if canHold { said.remove(.unfit) } else { reportOnce(.unfit, .cannotHold(shortage(at: now))) }
        // Whoever stays out of the lease leaves its own record to others, too: a renewal would keep them out.
        if isOwn(record, at: observation.server), canHold, now >= (standby.coolsUntil ?? now) {
            // A lock that stays busy is a stranger's: from then on the record is anyone's, and so is what R4 says of it.
            guard let busy = standby.ownBusySince, now >= busy + settings.timing.ownRecordPatience else {
                return update { $0.intention = .resumeOwn(record.epoch) }
            }
        } else {
            standby.ownBusySince = nil
        }
        let next = now + pollPause(record, age: observation.age)
        let watch = Watch.after(
            standby.watch, seeing: record, from: observation.server, through: session, age: observation.age,
            isOldCopy: isOldCopy, at: now)
        if watch.firstSeen == now {
            standby.lockBusySince = nil
            standby.lockWasTried = false
        }
        standby.intention = inTheWay(standby, of: watch, at: now) ?? .observe(at: next)
        standby.watch = watch
        role = .standby(standby)
        noteStanding(watch, at: now)
    }

    /// R9: only what we led or may have claimed, what this server itself took from a session of ours, and never after a
    /// release of that epoch. A record that merely names us was written by hands, or by a copy of this process.
    private func isOwn(_ record: Record, at server: ServerID) -> Bool {
        guard record.holder == settings.identity.instance, !record.released, record.server == server,
            let backend = record.backend, backends.contains(backend)
        else { return false }
        return ownEpochs.include(record)
    }

    /// R4: what to do about the holder of the lock of a record that ran out. Its session is what still holds hands off the
    /// record: nothing before our own TTL, whatever the record's is. Nil when nobody is in the way.
    private func inTheWay(_ standby: Standby, of watch: Watch, at now: Instant) -> Standby.Intention? {
        guard standby.lockWasTried, let since = standby.lockBusySince,
            watch.basis(at: now, largestTTL: largestTTL) == .expired,
            now >= watch.firstSeen + settings.timing.holderPatience
        else { return nil }
        let waited = now.since(since)
        if waited >= largestTTL * Timing.ttlsUntilLockIsWaived { return .claimUnlocked }
        return .terminateHolder(waited >= largestTTL * Timing.ttlsUntilAnyStrangerIsEnded ? .any : .idleFor(largestTTL))
    }

    /// R10. A record that was made and still is not there is hidden from this role, and would be made over and over.
    private mutating func recordIsMissing(at now: Instant) {
        guard recordMade else { return update { $0.intention = .create } }
        recordMade = false
        refused(
            .take, reason: "the lease's record was made and is not shown: a row filter (row-level security) hides it",
            lasting: false, at: now)
        let again = now + settings.timing.failurePause
        update { $0.intention = .observe(at: again) }
    }

    private mutating func noteStanding(_ watch: Watch, at now: Instant) {
        let record = watch.record
        if record.suspended { return reportOnce(.suspension, .suspended) }
        said.remove(.suspension)
        guard watch.firstSeen == now, watch.basis(at: now, largestTTL: largestTTL) == nil else { return }
        said = said.filter { if case .watching(let epoch) = $0 { epoch == record.epoch } else { true } }
        reportOnce(.watching(record.epoch), .standby(record, wait: watch.patience(largestTTL: largestTTL)))
    }

    /// Until the next poll: just after the holder's next renewal is due, so that observation starts right after one.
    private func pollPause(_ record: Record, age: Duration) -> Duration {
        let own = settings.timing.renewInterval
        guard record.holder != nil, !record.released else { return own }
        let untilRenewal = record.renewInterval - age
        guard untilRenewal > .zero else { return settings.timing.overduePollPause(holder: record.renewInterval) }
        return min(untilRenewal + settings.timing.pollDelay, own)
    }

    private mutating func claimed(
        _ reply: ClaimReply, sentAt: Instant, through session: SessionID, at now: Instant
    ) {
        guard case .standby(let standby) = role, let watch = standby.watch else { return }
        switch reply {
        case .claimed(let epoch, let fenced):
            report(.claimed(epoch, basis: basis(watch)))
            let ago = watch.ageWhenFirstSeen + sentAt.since(watch.firstSeen)
            chores.add(.historyBegin(epoch, previousRenewedAgo: ago))
            lead(epoch, beat: 0, fenced: fenced, sentAt: sentAt, through: session, at: now)
        case .changed:
            update {
                $0.watch = nil
                $0.intention = .observe(at: now)
            }
        case .lockBusy:
            // Another claimer, most likely: look again. Who holds the lock of a record that is merely released is about
            // to let go, or is not the one in the record (R4): `observed` terminates holders of expired ones only.
            let again = now + settings.timing.lockRetryPause
            update { standby in
                standby.claimPausesUntil = again
                standby.lockWasTried = true
                standby.lockBusySince = standby.lockBusySince ?? now
                standby.intention = .observe(at: now)
            }
        }
    }

    private func basis(_ watch: Watch) -> ClaimBasis {
        if watch.record.released { return watch.isReleased ? .released : .expired }
        return watch.record.holder == nil ? .unclaimed : .expired
    }

    mutating func standbyFailed(_ statement: Statement, at now: Instant) {
        let pause = settings.timing.failurePause
        update { standby in
            standby.claimPausesUntil = now + pause
            switch statement {
            // The lock may have been taken before the error: session locks survive it, and they count (R4).
            case .claim, .resume: standby.intention = .unlock
            default: standby.intention = .observe(at: now + pause)
            }
        }
    }

    /// Sends what is only for people, if there is anything.
    mutating func sendChores(leading: Bool, at now: Instant) {
        guard case .idle = link, !chores.isPaused(at: now) else { return }
        if let chore = chores.next() {
            send(.auxiliary(chore), at: now)
        } else if now >= chores.registerAt {
            chores.registerAt = now + settings.timing.registerInterval
            send(.auxiliary(.register(leading: leading, healthy: status(at: now).healthy)), at: now)
        }
    }
}
