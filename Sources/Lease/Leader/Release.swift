// R7: the lease is released once per epoch, by the session that last claimed or renewed, and only when the tree is
// known to be empty. And what follows when a leadership is over.

import Clock

extension LeaseMachine {
    mutating func release(at now: Instant, _ effects: inout [Action]) {
        guard let leadership, case .held(.windDown(let then)) = leadership.standing else { return }
        ownEpochs.releaseSent(in: leadership.epoch)
        self.leadership?.standing = .releasing(then)
        send(.release(leadership.epoch, beat: leadership.beat), at: now, &effects)
    }

    /// The release was answered: `done` unless the record was no longer ours.
    mutating func released(_ done: Bool, then: Afterwards, at now: Instant, _ effects: inout [Action]) {
        guard let epoch = leadership?.epoch else { return }
        report(done ? .released : .releaseRefused, &effects)
        auxiliaries.add(.notify, at: now)
        endHistory(epoch, .released(reason(then)), at: now)
        settle(then, at: now)
    }

    mutating func releaseFailed(then: Afterwards, at now: Instant, _ effects: inout [Action]) {
        report(.releaseRefused, &effects)
        settle(then, at: now)
    }

    /// What follows when the tree is empty and the lease released.
    mutating func planExit(_ exit: Exit) {
        switch leadership?.standing {
        case .held: leadership?.standing = .held(.windDown(.exit(exit)))
        case .lost(let loss, _): leadership?.standing = .lost(loss, then: .exit(exit))
        case .releasing: leadership?.standing = .releasing(.exit(exit))
        case nil: break
        }
    }

    /// The leadership is over and the tree is empty.
    mutating func settle(_ then: Afterwards, at now: Instant) {
        if let leadership, case .lost(let loss, _) = leadership.standing {
            endHistory(leadership.epoch, .lost(loss), at: now)
        }
        switch then {
        case .standBy: role = .standby(.fresh(at: now))
        case .coolDown: role = .standby(.fresh(at: now, coolsUntil: now + settings.restarts.cooldown))
        case .recover: role = .standby(.fresh(at: now, coolsUntil: now + timing.latenessWindow))
        case .exit(let exit): leave(exit, at: now)
        }
        auxiliaries.register(at: now)
    }

    /// A leadership ended when its last tree was gone, however much later that can be told.
    private mutating func endHistory(_ epoch: Epoch, _ reason: EndReason, at now: Instant) {
        var ago = Duration.zero
        if case .none(_, let since)? = leadership?.tree { ago = now.since(since) }
        auxiliaries.add(.historyEnd(epoch, reason: reason, ago: ago), at: now)
    }

    private func reason(_ then: Afterwards) -> EndReason.Release {
        switch then {
        case .standBy: .plain
        case .coolDown: .childFailed
        case .recover: .starved
        case .exit(let exit): .exit(exit)
        }
    }
}
