// The broken twins that sit in the keeper: what the real machine is told, what it remembers or what it orders is changed
// around it.

import Clock
import Orders

@testable import GuardModel
@testable import Lease

/// What a twin needs to know of the machine before an event.
struct TwinMemory {
    let deadline: Instant?
    let isLost: Bool
    let watch: Watch?
    let pollSentAt: Instant?
    let claimFailed: Bool
    let seen: Seen

    init(_ keeper: Keeper) {
        deadline = keeper.leadership?.deadline
        seen = keeper.machine.seen
        if case .lost = keeper.leadership?.standing { isLost = true } else { isLost = false }
        watch = keeper.standby?.watch
        if case .busy(_, .observe, let sentAt) = keeper.machine.link { pollSentAt = sentAt } else { pollSentAt = nil }
        if case .busy(_, .claim, _) = keeper.machine.link { claimFailed = true } else { claimFailed = false }
    }
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

extension Keeper {
    var leadership: Leadership? { if case .leading(let leadership) = machine.role { leadership } else { nil } }
    var standby: Standby? { if case .standby(let standby) = machine.role { standby } else { nil } }

    /// The event that a broken machine is given instead.
    func rewritten(_ event: Event) -> Event {
        if case .guardAnswered(let answer) = event { return rewritten(answer) }
        if case .reply(let session, .observed(let observation)) = event {
            return .reply(session, .observed(rewritten(observation, session)))
        }
        return event
    }

    private func rewritten(_ answer: Answer) -> Event {
        switch (answer, world.twin) {
        case (.empty, .emptyForOlderStart):
            if let start = leadership?.tree.start { return .guardAnswered(.empty(start)) }
        case (.strained, .latenessIgnored), (.strained, .latenessOnlyReported): return .tick
        case (.pong, .latenessIgnored), (.pong, .latePongCounts), (.extended, .latenessIgnored),
            (.extended, .latePongCounts):
            // As if it had come at once.
            if case .asked(let token, _, let by) = machine.guardian {
                machine.guardian = .asked(token, since: host.clock(at: world.now), by: by)
            }
        default: break
        }
        return .guardAnswered(answer)
    }

    private func rewritten(_ observation: Observation, _ session: SessionID) -> Observation {
        var observation = observation
        guard var record = observation.record else { return observation }
        switch world.twin {
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
            if let old = standby?.watch, old.session != session {
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
    func rewrite(_ actions: inout [Action], after event: Event, before: TwinMemory, at now: Instant) {
        switch world.twin {
        case .marginZero, .marginZeroByDriftAlone, .marginZeroAlone:
            guard let deadline = leadership?.deadline, deadline != before.deadline else { return }
            postpone(deadline, by: timing.margin, &actions)
        case .deadlineFromReply:
            guard let deadline = leadership?.deadline, deadline != before.deadline else { return }
            postpone(deadline, by: max(.zero, (now + timing.life).since(deadline)), &actions)
        case .deadlineFromSending: extendOnSending(&actions, at: now)
        case .watchFromSending:
            guard let watch = standby?.watch, watch.firstSeen == now, let sentAt = before.pollSentAt else { return }
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
            guard let watch = standby?.watch, watch.isOldCopy else { return }
            machine.update {
                $0.watch = Watch(
                    session: watch.session, record: watch.record, server: watch.server, firstSeen: watch.firstSeen,
                    ageWhenFirstSeen: watch.ageWhenFirstSeen, edited: watch.edited, isOldCopy: false)
            }
        case .shortenedTTLBelieved:
            guard let watch = standby?.watch, watch.edited else { return }
            machine.update {
                $0.watch = Watch(
                    session: watch.session, record: watch.record, server: watch.server, firstSeen: watch.firstSeen,
                    ageWhenFirstSeen: watch.ageWhenFirstSeen, edited: false, isOldCopy: watch.isOldCopy)
            }
        case .terminateOnReleased:
            guard case .reply(_, .observed) = event, let standby, standby.lockWasTried,
                standby.watch?.record.released == true
            else { return }
            machine.update { $0.intention = .terminateHolder(.idleFor(machine.largestTTL)) }
        case .failedClaimKeepsLock:
            guard case .statementFailed = event, before.claimFailed else { return }
            machine.update { $0.intention = .observe(at: now) }
            // What the machine has sent already is not to be.
            actions.removeAll { if case .send(_, .unlock) = $0 { true } else { false } }
            if case .busy(let id, .unlock, _) = machine.link { machine.link = .idle(id) }
        case .sessionClosedOnLoss:
            guard !before.isLost, case .lost = leadership?.standing, let id = machine.link.session else { return }
            actions.append(.closeSession(id))
            machine.link = .down(retryAt: now + timing.renewInterval, failures: 0)
            machine.change { $0.holds = nil }
        case .renewForSilentGuard:
            guard case .held = leadership?.standing, case .asked = machine.guardian else { return }
            machine.guardian = .answered(at: now)
        case .silentGuardSpared:
            guard case .asked(let token, let since, _) = machine.guardian else { return }
            machine.guardian = .asked(token, since: since, by: now + .seconds(1_000_000))
        case .guardsDeathAwaited: actions.removeAll { $0 == .killBelowGuard }
        case .guardAskedOnce:
            guard case .lost = leadership?.standing, machine.guardian.hasAnswered else { return }
            machine.guardian = .answered(at: now + .seconds(1_000_000))
        case .patienceBeyondMargin:
            guard case .lost = leadership?.standing, case .asked(let token, let since, _) = machine.guardian else {
                return
            }
            machine.guardian = .asked(token, since: since, by: since + .milliseconds(100))
        case .releaseBeforeEmpty: releaseEarly(&actions, at: now)
        default: break
        }
    }

    /// A later deadline in the machine and in its orders.
    private func postpone(_ deadline: Instant, by delay: Duration, _ actions: inout [Action]) {
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

    private func extendOnSending(_ actions: inout [Action], at now: Instant) {
        guard let leadership, case .held = leadership.standing, let start = leadership.tree.start,
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

    private func releaseEarly(_ actions: inout [Action], at now: Instant) {
        guard let leadership, case .held(.windDown(let then)) = leadership.standing,
            case .idle(let id) = machine.link, leadership.holds == id, leadership.tree.start != nil
        else { return }
        machine.ownEpochs.releaseSent(in: leadership.epoch)
        machine.change { $0.standing = .releasing(then) }
        let release = Statement.release(leadership.epoch, beat: leadership.beat)
        machine.link = .busy(id, release, sentAt: now)
        actions.append(.send(id, release))
    }
}
