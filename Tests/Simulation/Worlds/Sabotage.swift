// The broken twins that sit in the keeper: what the real machine is told, what it remembers or what it orders is changed
// around it. All of it happens in one place, `handle`: the loop's port for handing an event to the machine.

import Clock
import Orders

@testable import GuardModel
@testable import Lease

/// One broken rule around a machine.
struct Sabotage {
    let twin: Twin
    let timing: Timing
    let identity: Identity

    /// Hands an event to a broken machine, and returns what it wants done.
    func handle(_ event: Event, with machine: inout LeaseMachine, at now: Instant) -> [Action] {
        let before = Before(machine)
        let broken = rewritten(event, &machine, at: now)
        var actions = machine.handle(broken, at: now)
        rewrite(&actions, &machine, after: broken, before, at: now)
        return actions
    }
}

/// What a twin needs to know of the machine before an event.
private struct Before {
    let deadline: Instant?
    let isLost: Bool
    let pollSentAt: Instant?
    let claimFailed: Bool
    let seen: Seen

    init(_ machine: LeaseMachine) {
        deadline = machine.leadership?.deadline
        seen = machine.seen
        if case .lost = machine.leadership?.standing { isLost = true } else { isLost = false }
        if case .busy(_, .observe, let sentAt) = machine.link { pollSentAt = sentAt } else { pollSentAt = nil }
        if case .busy(_, .claim, _) = machine.link { claimFailed = true } else { claimFailed = false }
    }
}

extension LeaseMachine {
    fileprivate var standby: Standby? { if case .standby(let standby) = role { standby } else { nil } }
}

extension Seen {
    /// What only a look may do.
    fileprivate mutating func forgetNow(at now: Instant) {
        var next = self
        next.note(
            Record(
                epoch: Epoch(-1), beat: 0, holder: nil, node: nil, ttl: .zero, renewInterval: .zero, released: true,
                suspended: false, server: ServerID(0)), at: now)
        self = next
    }
}

extension Sabotage {
    /// The event that a broken machine is given instead.
    private func rewritten(_ event: Event, _ machine: inout LeaseMachine, at now: Instant) -> Event {
        if case .guardAnswered(let answer) = event { return rewritten(answer, &machine, at: now) }
        if case .reply(let session, .observed(let observation)) = event {
            return .reply(session, .observed(rewritten(observation, session, &machine)))
        }
        return event
    }

    private func rewritten(_ answer: Answer, _ machine: inout LeaseMachine, at now: Instant) -> Event {
        switch (answer, twin) {
        case (.killing(let start, .childExited), .exitTakenForKill): return .guardAnswered(.killing(start, .ordered))
        case (.empty, .emptyForOlderStart):
            if let start = machine.leadership?.tree.start { return .guardAnswered(.empty(start)) }
        case (.strained, .latenessIgnored), (.strained, .latenessOnlyReported): return .tick
        case (.pong, .latenessIgnored), (.pong, .latePongCounts), (.extended, .latenessIgnored),
            (.extended, .latePongCounts):
            // As if it had come at once.
            if case .asked(let token, _, let by) = machine.guardian {
                machine.guardian = .asked(token, since: now, by: by)
            }
        default: break
        }
        return .guardAnswered(answer)
    }

    private func rewritten(
        _ observation: Observation, _ session: SessionID, _ machine: inout LeaseMachine
    ) -> Observation {
        var observation = observation
        guard var record = observation.record else { return observation }
        switch twin {
        case .releasedByOtherServer where record.released: record.server = observation.server
        case .ownRecordOfOtherServer where record.holder == identity.instance: record.server = observation.server
        case .ownTTL: record.ttl = timing.ttl
        case .suspendedClaimed: record.suspended = false
        case .ownRecordAfterRelease, .ownRecordAfterReleaseUnaided:
            if record.holder == identity.instance { machine.ownEpochs.released = nil }
        case .anyRecordAfterClaimInDoubt:
            if record.holder == identity.instance, machine.ownEpochs.claimedOver != nil {
                machine.ownEpochs.claimedOver = Epoch(0)
                record.beat = 0
            }
        case .watchAcrossSessions:
            if let old = machine.standby?.watch, old.session != session {
                machine.update {
                    $0.watch = Watch(
                        session: session, record: old.record, server: observation.server, firstSeen: old.firstSeen,
                        ageWhenFirstSeen: old.ageWhenFirstSeen, edited: false, isOldCopy: false)
                }
            }
        default: break
        }
        observation.record = record
        return observation
    }

    /// What a broken machine does instead of `actions`.
    private func rewrite(
        _ actions: inout [Action], _ machine: inout LeaseMachine, after event: Event, _ before: Before, at now: Instant
    ) {
        switch twin {
        case .marginZero, .marginZeroByDriftAlone, .marginZeroAlone:
            guard let deadline = machine.leadership?.deadline, deadline != before.deadline else { return }
            postpone(deadline, by: timing.margin, &actions, &machine)
        case .deadlineFromReply:
            guard let deadline = machine.leadership?.deadline, deadline != before.deadline else { return }
            postpone(deadline, by: max(.zero, (now + timing.life).since(deadline)), &actions, &machine)
        case .deadlineFromSending: extendOnSending(&actions, &machine, at: now)
        case .watchFromSending:
            guard let watch = machine.standby?.watch, watch.firstSeen == now, let sentAt = before.pollSentAt else {
                return
            }
            machine.update {
                $0.watch = Watch(
                    session: watch.session, record: watch.record, server: watch.server, firstSeen: sentAt,
                    ageWhenFirstSeen: watch.ageWhenFirstSeen, edited: watch.edited, isOldCopy: watch.isOldCopy)
            }
        case .longestTTLForgotten:
            machine.seen = Seen()
            machine.largestTTL = timing.ttl
        case .forgottenOutOfTouch:
            if case .sessionOpened = event { machine.seen = before.seen }
            machine.seen.forgetNow(at: now)
        case .releasedBelowSeen:
            guard let watch = machine.standby?.watch, watch.isOldCopy else { return }
            machine.update {
                $0.watch = Watch(
                    session: watch.session, record: watch.record, server: watch.server, firstSeen: watch.firstSeen,
                    ageWhenFirstSeen: watch.ageWhenFirstSeen, edited: watch.edited, isOldCopy: false)
            }
        case .shortenedTTLBelieved:
            guard let watch = machine.standby?.watch, watch.edited else { return }
            machine.update {
                $0.watch = Watch(
                    session: watch.session, record: watch.record, server: watch.server, firstSeen: watch.firstSeen,
                    ageWhenFirstSeen: watch.ageWhenFirstSeen, edited: false, isOldCopy: watch.isOldCopy)
            }
        case .terminateOnReleased:
            guard case .reply(_, .observed) = event, let standby = machine.standby, standby.lockWasTried,
                standby.watch?.record.released == true
            else { return }
            let longest = machine.largestTTL
            machine.update { $0.intention = .terminateHolder(.idleFor(longest)) }
        case .failedClaimKeepsLock:
            guard case .statementFailed = event, before.claimFailed else { return }
            machine.update { $0.intention = .observe(at: now) }
            // What the machine has sent already is not to be.
            actions.removeAll { if case .send(_, .unlock) = $0 { true } else { false } }
            if case .busy(let id, .unlock, _) = machine.link { machine.link = .idle(id) }
        case .sessionClosedOnLoss:
            guard !before.isLost, case .lost = machine.leadership?.standing, let id = machine.link.session else {
                return
            }
            actions.append(.closeSession(id))
            machine.link = .down(retryAt: now + timing.renewInterval, failures: 0)
            machine.change { $0.holds = nil }
        case .renewForSilentGuard:
            guard case .held = machine.leadership?.standing, case .asked = machine.guardian else { return }
            machine.guardian = .answered(at: now)
        case .silentGuardSpared:
            guard case .asked(let token, let since, _) = machine.guardian else { return }
            machine.guardian = .asked(token, since: since, by: now + .seconds(1_000_000))
        case .guardsDeathAwaited: actions.removeAll { $0 == .killBelowGuard }
        case .guardAskedOnce:
            guard case .lost = machine.leadership?.standing, machine.guardian.hasAnswered else { return }
            machine.guardian = .answered(at: now + .seconds(1_000_000))
        case .patienceBeyondMargin:
            guard case .lost = machine.leadership?.standing, case .asked(let token, let since, _) = machine.guardian
            else {
                return
            }
            machine.guardian = .asked(token, since: since, by: since + .milliseconds(100))
        case .releaseBeforeEmpty: releaseEarly(&actions, &machine, at: now)
        default: break
        }
    }

    /// A later deadline in the machine and in its orders.
    private func postpone(
        _ deadline: Instant, by delay: Duration, _ actions: inout [Action], _ machine: inout LeaseMachine
    ) {
        machine.change { $0.deadline = deadline + delay }
        actions = actions.map { action in
            switch action {
            case .start(let start, deadline, let epoch):
                .start(start, deadline: deadline + delay, epoch: epoch)
            case .order(.extend(let start, deadline, let token)):
                .order(.extend(start, deadline: deadline + delay, token: token))
            default: action
            }
        }
    }

    private func extendOnSending(_ actions: inout [Action], _ machine: inout LeaseMachine, at now: Instant) {
        guard let leadership = machine.leadership, case .held = leadership.standing, let start = leadership.tree.start,
            actions.contains(where: {
                switch $0 {
                case .send(_, .renew), .send(_, .resume): true
                default: false
                }
            })
        else { return }
        machine.change { $0.deadline = now + timing.life }
        actions.append(.order(.extend(start, deadline: now + timing.life, token: 0)))
    }

    private func releaseEarly(_ actions: inout [Action], _ machine: inout LeaseMachine, at now: Instant) {
        guard let leadership = machine.leadership, case .held(.windDown(let then)) = leadership.standing,
            case .idle(let id) = machine.link, leadership.holds == id, leadership.tree.start != nil
        else { return }
        machine.ownEpochs.releaseSent(in: leadership.epoch)
        machine.change { $0.standing = .releasing(then) }
        let release = Statement.release(leadership.epoch, beat: leadership.beat)
        machine.link = .busy(id, release, sentAt: now)
        actions.append(.send(id, release))
    }
}
