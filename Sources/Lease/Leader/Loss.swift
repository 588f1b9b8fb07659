// How a leadership ends without a request: the lease is lost (R1, R2, R5), or given up in time because this machine
// is too late to hold it (R2). The tree dies first. Session and lock are kept until the tree is empty.

import Clock

extension LeaseMachine {
    /// R1, R2: after the deadline the lease is lost, whatever arrives later. This is also checked before every event.
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

    /// R2: kills the child now, while there is time, and renews the lease while the child dies. Then another node
    /// gets its turn. If the tree is ending anyway, the lease is renewed until it has ended, as long as that is
    /// possible.
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
