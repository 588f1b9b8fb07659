// The keeper's view of the guard itself (R5, R12): what the guard is asked, how long an answer may take, and what
// happens if the guard stays silent, sends nonsense or dies.

import Clock
import Orders

extension LeaseMachine {
    /// Whether the lease is lost and the tree is not known to be empty.
    private var mustKill: Bool {
        guard let leadership, case .lost = leadership.standing else { return false }
        return leadership.tree.start != nil
    }

    /// Pings the guard. Nothing is claimed or renewed before it answers. A guard that must kill has little time for
    /// its answer (R12).
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

    /// When the answer of a guard that must kill is overdue. A guard that is known to be late gets more time, as far
    /// as its deadline was brought forward for that (R2). To kill it would only make more work for the same few
    /// processors.
    private func answerDue(at now: Instant) -> Instant {
        let due = now + timing.patienceWithGuard
        guard let leadership else { return due }
        // The keeper itself wakes this late once more.
        let paid = leadership.grantedAt + (timing.life - lateness.worstRemembered)
        return max(due, min(due + lateness.worstRemembered, paid))
    }

    /// A guard that reports anything about its tree is alive. It gets the same time again for the answer that is
    /// outstanding.
    mutating func heardOfTree(at now: Instant) {
        guard case .asked(let token, let since, let by) = guardian else { return }
        guardian = .asked(token, since: since, by: max(by, answerDue(at: now)))
    }

    /// The answer to the question with that token. An answer to an older question says nothing.
    mutating func guardAnswered(token: UInt64, at now: Instant, _ effects: inout [Action]) {
        guard case .asked(token, let since, _) = guardian else { return }
        guardian = .answered(at: now)
        answered(after: now.since(since), at: now, &effects)
    }

    /// Kills a guard that is silent or confused. If it dies at once, the keeper inherits its tree. A guard that is
    /// traced, frozen or in state D does not die, and neither does its child. So the keeper kills what is below it
    /// without waiting (R12).
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

    /// Treats the guard as dead: it never runs again, and only zombies are left below it.
    mutating func nothingAliveBelowGuard(at now: Instant, _ effects: inout [Action]) {
        guard guardian == .condemned else { return }
        report(.guardUndead, &effects)
        guardian = .gone
        leadership?.tree = .none(startAt: now, since: now)
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
        leadership?.tree = .none(startAt: now, since: now)
    }

    mutating func survivors(_ processes: [SeenProcess], _ effects: inout [Action]) {
        switch guardian {
        case .condemned, .fallen: break
        case .unasked, .answered, .asked, .gone: return
        }
        isStuck = true
        report(.surviving(processes), &effects)
    }

    /// No process is left that could kill what the keeper cannot kill. The keeper goes on trying, but it exits when
    /// asked to stop.
    mutating func abandon(at now: Instant, _ effects: inout [Action]) {
        if let epoch = leadership?.epoch {
            auxiliaries.add(.historyEnd(epoch, reason: .notReleased, ago: .zero), at: now)
        }
        report(.abandoned, &effects)
        leave(.guardLost, at: now)
    }
}
