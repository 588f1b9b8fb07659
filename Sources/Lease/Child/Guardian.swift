// The keeper's view of the guard itself (R5, R12): what it is asked, how long it may owe an answer, and what happens to one that
// stays silent, says nonsense or dies.

import Clock
import Orders

extension LeaseMachine {
    /// The lease is lost and the tree not known to be empty.
    private var mustKill: Bool {
        guard let leadership, case .lost = leadership.standing else { return false }
        return leadership.tree.start != nil
    }

    /// Pings the guard. Until it answers nothing is claimed or renewed on its behalf; if it must kill, it has little time (R12).
    mutating func askGuard(at now: Instant, _ effects: inout [Action]) {
        switch guardian {
        case .unasked, .answered, .asked: break
        case .condemned, .fallen, .gone: return
        }
        awaitAnswer(at: now)
        effects.append(.order(.ping(token: lastToken)))
    }

    /// A new question, with a token of its own, is about to be sent.
    mutating func awaitAnswer(at now: Instant) {
        lastToken += 1
        let by = mustKill ? answerDue(at: now) : now + timing.patienceWithIdleGuard
        guardian = .asked(lastToken, since: now, by: by)
    }

    /// When a guard that must kill has owed its answer for too long. One that is known to be late has longer, as far as its
    /// deadline was brought forward for it (R2): to kill it would only make more work for the same few processors.
    private func answerDue(at now: Instant) -> Instant {
        let due = now + timing.patienceWithGuard
        guard let leadership else { return due }
        // The keeper wakes as late for it once more.
        let paid = leadership.grantedAt + (timing.life - lateness.worstRemembered)
        return max(due, min(due + lateness.worstRemembered, paid))
    }

    /// A guard that says anything about its tree is alive; it has as long again for the answer that it owes.
    mutating func heardOfTree(at now: Instant) {
        guard case .asked(let token, let since, let by) = guardian else { return }
        guardian = .asked(token, since: since, by: max(by, answerDue(at: now)))
    }

    /// The answer to the question with that token. One to an older question says nothing.
    mutating func guardAnswered(token: UInt64, at now: Instant, _ effects: inout [Action]) {
        guard case .asked(token, let since, _) = guardian else { return }
        guardian = .answered(at: now)
        answered(after: now.since(since), at: now, &effects)
    }

    /// SIGKILLs a guard that is silent or confused. Should it die at once, its tree falls to the keeper. One that is traced,
    /// frozen or in state D does not, and neither does its child: so the keeper kills below it without waiting (R12).
    mutating func condemnGuard(_ effects: inout [Action]) {
        guardian = .condemned
        effects.append(.killGuard)
        effects.append(.killBelowGuard)
    }

    mutating func guardFailed(_ effects: inout [Action]) {
        switch guardian {
        case .unasked, .answered, .asked: condemnGuard(&effects)
        case .condemned, .fallen, .gone: break
        }
    }

    /// As if the guard were dead: it never runs again, and what it leaves is zombies.
    mutating func nothingAliveBelowGuard(at now: Instant, _ effects: inout [Action]) {
        guard guardian == .condemned else { return }
        report(.guardUndead, &effects)
        guardian = .gone
        leadership?.tree = .none(startAt: now)
        planExit(.guardLost)
    }

    mutating func guardGone(_ effects: inout [Action]) {
        switch guardian {
        case .fallen, .gone: return
        case .unasked, .answered, .asked, .condemned: break
        }
        report(.guardLost, &effects)
        guardian = .fallen
        isStuck = false
        leadership?.tree = .fallen
        planExit(.guardLost)
        effects.append(.killDescendants)
    }

    mutating func descendantsGone(at now: Instant, _ effects: inout [Action]) {
        guard guardian == .fallen else { return slip("nothing had fallen to the keeper: \(guardian)") }
        guardian = .gone
        report(.treeEmpty, &effects)
        leadership?.tree = .none(startAt: now)
    }

    mutating func survivors(_ processes: [SeenProcess], _ effects: inout [Action]) {
        switch guardian {
        case .condemned, .fallen: break
        case .unasked, .answered, .asked, .gone: return
        }
        isStuck = true
        report(.surviving(processes), &effects)
    }

    /// Nobody is left who could kill what the keeper cannot. It goes on trying, but does not refuse to end.
    mutating func abandon(at now: Instant, _ effects: inout [Action]) {
        if let epoch = leadership?.epoch {
            auxiliaries.add(.historyEnd(epoch, reason: .notReleased))
        }
        report(.abandoned, &effects)
        leave(.guardLost, at: now)
    }
}
