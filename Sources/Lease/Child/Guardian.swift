// The keeper's view of the guard and its tree: orders, answers, silence (R12), and what to do when a child ends.

import Clock

extension LeaseMachine {
    /// When a guard that must kill has owed its answer for too long. One that is known to be late has longer, as far as its
    /// deadline was brought forward for it (R2): to kill it would only make more work for the same few processors.
    private func answerDue(at now: Instant) -> Instant {
        let due = now + settings.timing.patienceWithGuard
        guard case .leading(let leadership) = role else { return due }
        // The keeper wakes as late for it once more.
        let paid = leadership.grantedAt + (settings.timing.life - lateness.worstRemembered)
        return max(due, min(due + lateness.worstRemembered, paid))
    }

    /// Pings the guard. Until it answers nothing is claimed or renewed on its behalf.
    mutating func ask(at now: Instant) {
        lastToken += 1
        probeAt = nil
        guardian = .asked(lastToken, since: now, by: now + settings.timing.patienceWithIdleGuard)
        actions.append(.order(.ping(lastToken)))
    }

    /// At the deadline, or after a loss, the guard has `Timing.patienceWithGuard` to answer (R12).
    mutating func demandAnswer(at now: Instant) {
        switch guardian {
        case .answering, .asked:
            lastToken += 1
            guardian = .asked(lastToken, since: now, by: answerDue(at: now))
            actions.append(.order(.ping(lastToken)))
        case .condemned, .fallen, .gone: break
        }
    }

    /// A guard that says anything about its tree is alive; it has as long again for the answer that it owes.
    private mutating func heard(at now: Instant) {
        guard case .asked(let token, let since, let by) = guardian else { return }
        guardian = .asked(token, since: since, by: max(by, answerDue(at: now)))
    }

    /// The lease is lost and the tree not known to be empty.
    private var mustKill: Bool {
        guard case .leading(let leadership) = role, case .lost = leadership.standing else { return false }
        return leadership.tree.start != nil
    }

    private var holdsForChild: Bool {
        guard case .leading(let leadership) = role, case .held = leadership.standing else { return false }
        return leadership.tree.start != nil
    }

    /// When a guard that has not been asked for long is asked again.
    var nextProbe: Instant? { guardian == .answering && holdsForChild ? probeAt : nil }

    mutating func watchGuardian(at now: Instant) {
        if let again = askAgainAt, now >= again {
            askAgainAt = nil
            if guardian == .answering, mustKill { demandAnswer(at: now) }
        }
        // Not only after a renewal: without one its lateness matters most.
        if guardian == .answering, let probeAt, now >= probeAt, holdsForChild { ask(at: now) }
        guard case .asked(_, _, let by) = guardian, now >= by else { return }
        report(.guardSilent)
        condemn()
    }

    /// SIGKILLs a guard that is silent or confused. Should it die at once, its tree falls to the keeper. One that is traced,
    /// frozen or in state D does not, and neither does its child: so the keeper kills below it without waiting (R12).
    private mutating func condemn() {
        guardian = .condemned
        actions.append(.killGuard)
        actions.append(.killBelowGuard)
    }

    mutating func guardFailed() {
        switch guardian {
        case .answering, .asked: condemn()
        case .condemned, .fallen, .gone: break
        }
    }

    /// As if the guard were dead: it never runs again, and what it leaves is zombies.
    mutating func nothingAliveBelowGuard(at now: Instant) {
        guard guardian == .condemned else { return }
        report(.guardUndead)
        guardian = .gone
        change { $0.tree = .none(startAt: now) }
        planExit(.guardLost)
    }

    mutating func survivors(_ processes: [Leftover]) {
        switch guardian {
        case .condemned, .fallen: break
        case .answering, .asked, .gone: return
        }
        isStuck = true
        report(.surviving(processes))
    }

    /// Nobody is left who could kill what the keeper cannot. It goes on trying, but does not refuse to end.
    mutating func abandonIfAsked(at now: Instant) {
        guard isStuck, stopping != nil, guardian == .condemned || guardian == .fallen else { return }
        switch role {
        case .standby: break
        case .leading(let leadership):
            chores.add(.historyEnd(leadership.epoch, reason: "not released: processes that cannot be killed are left"))
        case .leaving, .ended: return
        }
        report(.abandoned)
        leave(.guardLost, at: now)
    }

    mutating func guardAnswered(_ answer: GuardAnswer, at now: Instant) {
        if case .pong(let token) = answer {
            guard case .asked(token, let since, _) = guardian else { return }
            guardian = .answering
            probeAt = now + settings.timing.guardProbeInterval
            answered(after: now.since(since), at: now)
            // It may yet be stopped in the middle of killing.
            if mustKill { askAgainAt = now + settings.timing.patienceWithGuard }
            return
        }
        if case .strained(let strain) = answer { return strained(strain, at: now) }
        guard case .leading(let leadership) = role, let current = leadership.tree.start else { return }
        heard(at: now)
        switch answer {
        case .strained, .pong: break
        case .started(current, let pid):
            report(.started(current, pid: pid))
            if case .starting(current, _) = leadership.tree { change { $0.tree = .running(current) } }
            chores.register(at: now)
        case .notStarted(current, .cannotExecute(let errno)):
            report(.cannotExecute(errno: errno))
            change { $0.tree = .dying(current, .cannotExecute(errno: errno)) }
        case .notStarted(current, .cannotFork(let errno)):
            // The machine is short of something: with back-off, as after any failure of the child (71: EX_OSERR).
            report(.cannotFork(errno: errno))
            change { $0.tree = .dying(current, .exited(.code(71))) }
        case .notStarted(current, .deadlinePassed):
            change { $0.tree = .dying(current, .killed) }
        case .notStarted(current, .refused):
            condemn()
        case .exited(current, let exit):
            report(.childExited(exit, asked: leadership.tree.isEnding))
            if case .dying = leadership.tree { break }
            change { $0.tree = .dying(current, .exited(exit)) }
        case .killing(current, let byDeadline):
            if byDeadline { report(.killing(reason: "the guard's deadline passed")) }
            if case .dying = leadership.tree { break }
            change { $0.tree = .dying(current, .killed) }
            if byDeadline, isLate(at: now), case .held(.run) = leadership.standing {
                change { $0.standing = .held(.windDown(.recover)) }
            }
        case .empty(current):
            report(.treeEmpty)
            treeEmptied(leadership, at: now)
        case .leftBehind(current, let count, let processes): report(.leftBehind(count: count, processes))
        case .surviving(current, let processes): report(.surviving(processes))
        // Answers to another start (R12).
        case .started, .notStarted, .exited, .killing, .empty, .leftBehind, .surviving: break
        }
    }

    private mutating func treeEmptied(_ leadership: Leadership, at now: Instant) {
        var startAt = now
        if case .held(.run) = leadership.standing, case .dying(_, let outcome) = leadership.tree {
            switch outcome {
            case .killed: break
            case .cannotExecute(let errno): planExit(.cannotExecute(errno: errno))
            case .exited(let exit): startAt = afterExit(exit, at: now)
            }
        }
        change { $0.tree = .none(startAt: startAt) }
    }

    /// The child ended by itself: when to start it again, or the plan to give the lease up.
    private mutating func afterExit(_ exit: ChildExit, at now: Instant) -> Instant {
        if settings.once {
            planExit(.childEnded(exit))
            return now
        }
        switch restarts.noteExit(at: now, policy: settings.restarts) {
        case .restart(let wait, let attempt):
            report(.restarting(after: wait, attempt: attempt))
            return now + wait
        case .giveUp:
            report(.gaveUp(cooldown: settings.restarts.cooldown))
            change { $0.standing = .held(.windDown(.coolDown)) }
            return now
        }
    }

    /// What follows when the tree is empty and the lease released.
    mutating func planExit(_ exit: Exit) {
        change { leadership in
            switch leadership.standing {
            case .held: leadership.standing = .held(.windDown(.exit(exit)))
            case .lost(let loss, _): leadership.standing = .lost(loss, then: .exit(exit))
            case .releasing: leadership.standing = .releasing(.exit(exit))
            }
        }
    }

    mutating func kill(_ start: StartID, reason: String, at now: Instant) {
        report(.killing(reason: reason))
        actions.append(.order(.kill(start)))
        change { $0.tree = .dying(start, .killed) }
    }

    mutating func stopLeading(_ leadership: Leadership, at now: Instant) {
        switch leadership.tree {
        case .none, .fallen, .dying:
            // An end that is planned already keeps its reason, and so its exit code.
            if !leadership.standing.endsInExit { planExit(.stopped(killed: false)) }
        case .starting(let start, _), .running(let start):
            if stopping == .now {
                planExit(.stopped(killed: true))
                kill(start, reason: "asked to stop at once", at: now)
            } else {
                planExit(.stopped(killed: false))
                report(.draining(grace: settings.grace))
                actions.append(.order(.signal(start, 15)))
                // SIGCONT: a command that is stopped could not take the SIGTERM, and would cost the whole grace period.
                actions.append(.order(.signal(start, 18)))
                let killAt = now + settings.grace
                change { $0.tree = .draining(start, killAt: killAt) }
            }
        case .draining(let start, _):
            guard stopping == .now else { return }
            planExit(.stopped(killed: true))
            kill(start, reason: "asked to stop at once", at: now)
        }
    }

    mutating func forward(_ signal: Int32) {
        guard case .leading(let leadership) = role else { return }
        switch leadership.tree {
        case .starting(let start, _), .running(let start), .draining(let start, _):
            actions.append(.order(.signal(start, signal)))
        case .none, .dying, .fallen: break
        }
    }

    mutating func guardGone(at now: Instant) {
        switch guardian {
        case .fallen, .gone: return
        case .answering, .asked, .condemned: break
        }
        report(.guardLost)
        guardian = .fallen
        isStuck = false
        change { $0.tree = .fallen }
        planExit(.guardLost)
        actions.append(.killDescendants)
    }

    mutating func descendantsGone(at now: Instant) {
        guard guardian == .fallen else { return }
        guardian = .gone
        report(.treeEmpty)
        change { $0.tree = .none(startAt: now) }
    }
}
