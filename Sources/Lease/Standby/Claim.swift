// R3, R4: from when a standby may claim, the claim itself, and what can stand in its way: a lock that another session
// holds.

import Clock

extension LeaseMachine {
    /// From when this standby may claim the record that it watches, if nothing changes until then; nil while only an
    /// event can allow it. With the lock waived (R4), the pause after the last claim does not count, because the
    /// waiver is the answer to that claim.
    func claimAllowed(_ standby: Standby, _ lock: LockDemand) -> Instant? {
        // Only a watch through this very session counts (R3). A guard that owes an answer could not kill in time (R5).
        guard let watch = standby.watch, watch.session == link.session, guardian.hasAnswered, canHold,
            !watch.record.suspended
        else { return nil }
        let expiry = watch.expiry(largestTTL: largestTTL)
        let from: Instant
        switch lock {
        case .needed:
            let seen = watch.isReleased ? watch.firstSeen : expiry
            from = max(seen, standby.claimPausesUntil ?? seen)
        case .waived: from = expiry
        }
        return max(from, standby.coolsUntil ?? from)
    }

    mutating func claim(_ lock: LockDemand, at now: Instant, _ effects: inout [Action]) {
        guard let standby, let watch = standby.watch, let from = claimAllowed(standby, lock), from <= now else {
            return update { standby in
                standby.lockWasTried = false
                standby.intention = .observe(at: now)
            }
        }
        if lock == .waived { report(.lockWaived, &effects) }
        send(.claim(seen: watch.record, epochAbove: highestEpoch, lock: lock), at: now, &effects)
    }

    mutating func claimed(
        _ reply: ClaimReply, sentAt: Instant, through session: SessionID, at now: Instant, _ effects: inout [Action]
    ) {
        guard let standby, let watch = standby.watch else { return }
        switch reply {
        case .claimed(let epoch, let fenced):
            let ago = watch.ageWhenFirstSeen + sentAt.since(watch.firstSeen)
            let from = Predecessor(node: watch.record.node, silence: ago, trace: trace(standby, watch))
            effects.append(.report(.claimed(epoch, basis: basis(watch), from: from), epoch: epoch))
            auxiliaries.add(.historyBegin(epoch, ago: .zero, previousRenewedAgo: ago), at: now)
            lead(epoch, beat: 0, fenced: fenced, sentAt: sentAt, through: session, at: now, &effects)
        case .changed:
            update {
                $0.watch = nil
                $0.intention = .observe(at: now)
            }
        case .lockBusy:
            // Most likely another sidecar claims: look again. If the record is only released, the lock's holder is
            // about to let go, or is a session that the record does not name (R4). `observed` terminates the holder
            // only if the record has expired.
            let again = now + timing.lockRetryPause
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

    private func trace(_ standby: Standby, _ watch: Watch) -> Predecessor.Trace {
        guard basis(watch) == .expired, watch.record.holder != nil else { return .none }
        if watch.record.server != watch.server { return .serverRestarted }
        return standby.lockBusySince == nil ? .sessionEnded : .sessionThere
    }

    /// R4: what to do about the session that holds the lock of an expired record. The lock is all that protects the
    /// record from edits by people. So nothing is done before our own TTL has passed, whatever the record's TTL is.
    /// Nil when no lock is in the way.
    func inTheWay(_ standby: Standby, of watch: Watch, at now: Instant) -> Standby.Intention? {
        guard standby.lockWasTried, let since = standby.lockBusySince,
            watch.basis(at: now, largestTTL: largestTTL) == .expired, now >= watch.firstSeen + timing.holderPatience
        else { return nil }
        let waited = now.since(since)
        if waited >= largestTTL * Timing.ttlsUntilLockIsWaived { return .claimUnlocked }
        return .terminateHolder(waited >= largestTTL * Timing.ttlsUntilAnyStrangerIsEnded ? .any : .idleFor(largestTTL))
    }

    mutating func terminateHolder(_ strangers: StrangerDemand, at now: Instant, _ effects: inout [Action]) {
        guard let watch = standby?.watch else { return update { $0.intention = .observe(at: now) } }
        send(.terminateHolder(seen: watch.record, strangers: strangers), at: now, &effects)
    }

    mutating func terminated(_ count: Int, at now: Instant, _ effects: inout [Action]) {
        if count > 0 {
            report(.holdersTerminated(count), &effects)
        } else {
            reportOnce(.stranger, .lockHeldByStranger, &effects)
        }
        let pause = count > 0 ? timing.terminationPause : timing.failurePause
        update { standby in
            // First look again: the record may have moved meanwhile, and then the watch starts anew.
            standby.claimPausesUntil = now + pause
            standby.lockWasTried = false
            standby.intention = .observe(at: now)
        }
    }
}
