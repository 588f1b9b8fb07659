// Health of a standby. A standby whose claims PostgreSQL would refuse cannot take over, whatever else works. It
// learns this from claims that were refused. A standby may wait for months, so it also learns it from a rehearsal:
// the claim's own statement, for a lease that does not exist. Nothing here decides about a claim. A standby that is
// refused goes on trying.

import Clock

/// What PostgreSQL refuses this sidecar.
struct Refusal: Hashable, Sendable {
    enum Step: Hashable, Sendable {
        /// To read the record.
        case look
        /// To create the record or to claim it.
        case take
    }

    let step: Step
    let reason: RefusalReason
    /// It will be refused again until a person changes something.
    let lasting: Bool
    /// How many refusals in a row.
    let times: Int
    /// When it was last refused.
    let at: Instant
    /// The write that a real claim was refused to replace. A rehearsal does not meet what concerns that row alone,
    /// such as a lock on it.
    let write: Write?

    /// One write of the record.
    struct Write: Hashable, Sendable {
        let epoch: Epoch
        let beat: Int64

        init(_ record: Record) { (epoch, beat) = (record.epoch, record.beat) }
    }

    /// A lock, a limit or a deadlock may pass by itself. Three refusals in a row do not.
    var counts: Bool { lasting || times >= 3 }
}

extension Statement {
    /// The step that a standby cannot take when this statement is refused.
    var refusalStep: Refusal.Step? {
        switch self {
        case .observe: .look
        case .create, .claim, .resume, .auxiliary(.rehearse): .take
        case .terminateHolder, .renew, .release, .unlock, .auxiliary: nil
        }
    }

    /// The write over which it claims.
    fileprivate var claimedWrite: Refusal.Write? {
        if case .claim(let seen, _, _) = self { Refusal.Write(seen) } else { nil }
    }
}

extension LeaseMachine {
    /// Why PostgreSQL would not let this standby lead; nil while nothing is known against it.
    var refusedBecause: RefusalReason? { refusal.flatMap { $0.counts ? $0.reason : nil } }

    /// A standby's statement was refused.
    mutating func refused(
        _ step: Refusal.Step, _ reason: RefusalReason, lasting: Bool, of write: Refusal.Write? = nil, at now: Instant,
        _ effects: inout [Action]
    ) {
        let before = refusedBecause
        if let old = refusal, old.step == step {
            // A lasting reason is not replaced by a passing one.
            let stays = old.counts && !lasting
            refusal = Refusal(
                step: step, reason: stays ? old.reason : reason, lasting: stays ? old.lasting : lasting,
                times: old.times + 1, at: now, write: write ?? old.write)
        } else if refusal?.counts != true || lasting {
            refusal = Refusal(step: step, reason: reason, lasting: lasting, times: 1, at: now, write: write)
        }
        // While claims are being refused there is nothing to rehearse.
        rehearseAt =
            now + (refusedBecause == nil ? timing.rehearsalRetryPause : timing.refusedRehearsalPause)
        // Details differ from time to time (a failing row): another reason is reported again, but not every time.
        guard let reason = refusedBecause, reason != before,
            before == nil || now.since(refusalReportedAt ?? now) >= timing.refusalNoticeInterval
        else { return }
        refusalReportedAt = now
        report(.refused(reason), &effects)
        auxiliaries.register(at: now)
    }

    /// A standby's statement failed.
    mutating func refused(
        _ statement: Statement, reason: String, lasting: Bool, at now: Instant, _ effects: inout [Action]
    ) {
        guard let step = statement.refusalStep else { return }
        refused(step, .server(reason), lasting: lasting, of: statement.claimedWrite, at: now, &effects)
    }

    /// `step` was not refused.
    mutating func allowed(_ step: Refusal.Step, at now: Instant, _ effects: inout [Action]) {
        guard let refusal, refusal.step == step else { return }
        self.refusal = nil
        guard refusal.counts else { return }
        report(.noLongerRefused, &effects)
        auxiliaries.register(at: now)
    }

    /// A new session may have other rights. But what was refused a moment ago is not tried again at once.
    mutating func rehearseSoon(at now: Instant) { rehearseAt = max(now, rehearseAt ?? now) }

    /// When to rehearse. Never while auxiliary statements are paused, because a statement that costs the session also
    /// costs the watch (R3).
    var rehearsalDue: Instant? { rehearseAt.map { max($0, auxiliaries.pausedUntil ?? $0) } }

    mutating func rehearsed(at now: Instant, _ effects: inout [Action]) {
        rehearseAt = nil
        if let write = refusal?.write, !hasSeen(anotherThan: write) {
            rehearseAt = now + timing.refusedRehearsalPause
            return
        }
        allowed(.take, at: now, &effects)
    }

    /// Whether the record has been written since then, so that it can be written.
    private func hasSeen(anotherThan write: Refusal.Write) -> Bool {
        guard case .standby(let standby) = role, let record = standby.watch?.record else { return false }
        return Refusal.Write(record) != write
    }
}
