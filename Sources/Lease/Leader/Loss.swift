// The end of a leadership that is not the leader's own wish: the lease is lost (R1, R2, R5), or given up in time because the
// machine is too late to hold it (R2). The tree dies first; session and lock are kept until it is empty.

import Clock

extension LeaseMachine {
    /// R1, R2: past the deadline the lease is lost, whatever comes in later. Looked at before every event, too.
    mutating func loseIfExpired(at now: Instant, _ effects: inout [Action]) {
        guard let leadership, case .held = leadership.standing, now >= leadership.deadline else { return }
        lose(.deadlinePassed, at: now, &effects)
    }

    /// Kill now, keep session and lock until the tree is empty (R5).
    mutating func lose(_ loss: Loss, at now: Instant, _ effects: inout [Action]) {
        guard var leadership, case .held(let purpose) = leadership.standing else { return }
        report(.lost(loss), &effects)
        var then = isLate(at: now) ? Afterwards.recover : .standBy
        if case .windDown(let planned) = purpose { then = planned }
        leadership.standing = .lost(loss, then: then)
        let start = leadership.tree.start
        if let start {
            effects.append(.order(.kill(start)))
            if case .dying = leadership.tree {} else { leadership.tree = .dying(start, .killed) }
        }
        role = .leading(leadership)
        if start != nil { askGuard(at: now, &effects) }
    }

    /// R2: killed now, while there is time, and renewed while it dies; then it is another node's turn. A tree that is ending
    /// anyway is renewed until it has, if it can be.
    mutating func giveUpIfStarved(at now: Instant, _ effects: inout [Action]) {
        guard leadership?.standing == .held(.run), isStarved(at: now) else { return }
        report(.starved(shortage(at: now), pause: timing.latenessWindow), &effects)
        leadership?.standing = .held(.windDown(.recover))
        if let start = leadership?.tree.living { kill(start, .starved, &effects) }
    }

    /// The lock is given up after a loss.
    mutating func unlocked(_ then: Afterwards, at now: Instant) {
        if case .none? = leadership?.tree { settle(then, at: now) }
    }
}
