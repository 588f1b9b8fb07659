// The child under a leadership: its start, what the guard reports about it, its end, and what follows (restart,
// another node's turn, the exit of the sidecar). Everything goes through the guard. The machine knows only what the
// guard has reported about the current start.

import Clock
import Orders

extension LeaseMachine {
    mutating func startChild(at now: Instant, _ effects: inout [Action]) {
        guard let leadership else { return }
        lastStart = StartID(lastStart.rawValue + 1)
        report(.starting(lastStart), &effects)
        effects.append(.start(lastStart, deadline: leadership.deadline, epoch: leadership.epoch))
        let tree = Tree.starting(lastStart, by: now + settings.startLimit)
        self.leadership?.tree = tree
    }

    /// The exec takes too long. This counts as a failed start, with back-off as after any failure of the child.
    mutating func killHungStart(_ start: StartID, _ effects: inout [Action]) {
        report(.startHung(after: settings.startLimit), &effects)
        effects.append(.order(.kill(start)))
        leadership?.tree = .dying(start, .exited(.failedStart))
    }

    mutating func killAfterGrace(_ start: StartID, _ effects: inout [Action]) {
        kill(start, .graceOver, &effects)
        planExit(.stopped(killed: true))
    }

    mutating func kill(_ start: StartID, _ reason: KillReason, _ effects: inout [Action]) {
        report(.killing(reason), &effects)
        effects.append(.order(.kill(start)))
        leadership?.tree = .dying(start, .killed)
    }

    mutating func guardAnswered(_ answer: Answer, at now: Instant, _ effects: inout [Action]) {
        switch answer {
        case .ready: return
        case .pong(let token), .extended(_, _, let token): return guardAnswered(token: token, at: now, &effects)
        case .strained(let strain): return strained(strain, at: now, &effects)
        default: break
        }
        guard let tree = leadership?.tree, let current = tree.start else { return }
        heardOfTree(at: now)
        switch answer {
        case .ready, .strained, .pong, .extended: break
        case .started(current, let pid):
            report(.started(current, pid: pid), &effects)
            if case .starting = tree { leadership?.tree = .running(current) }
            auxiliaries.register(at: now)
        case .notStarted(current, let why): notStarted(current, why, &effects)
        case .exited(current, let exit):
            report(.childExited(exit, asked: tree.isEnding), &effects)
            if case .dying = tree { break }
            leadership?.tree = .dying(current, .exited(exit))
        case .killing(current, let cause): guardKills(current, cause, at: now, &effects)
        case .empty(current):
            report(.treeEmpty, &effects)
            treeEmptied(at: now, &effects)
        case .leftBehind(current, let count, let processes):
            report(.leftBehind(count: Int(count), processes), &effects)
        case .surviving(current, let processes): report(.surviving(processes), &effects)
        // Answers to another start (R12).
        case .started, .notStarted, .exited, .killing, .empty, .leftBehind, .surviving: break
        }
    }

    private mutating func notStarted(_ start: StartID, _ why: NotStarted, _ effects: inout [Action]) {
        switch why {
        case .cannotExecute(let errno):
            report(.cannotExecute(errno: errno), &effects)
            leadership?.tree = .dying(start, .cannotExecute(errno: errno))
        case .cannotFork(let errno):
            // The system is short of processes or memory: restart with back-off, as after any failure of the child.
            report(.cannotFork(errno: errno), &effects)
            leadership?.tree = .dying(start, .exited(.failedStart))
        case .deadlinePassed: leadership?.tree = .dying(start, .killed)
        // A tree where there can be none, or a start's name used twice: this guard cannot be trusted any more.
        case .treeAlive, .stale: condemnGuard(&effects)
        }
    }

    /// The order did not reach the guard, because the guard does not read. This counts as a failed start. Otherwise
    /// the machine would wait for the end of this start forever (11: EAGAIN).
    mutating func startUndelivered(_ start: StartID, at now: Instant, _ effects: inout [Action]) {
        switch leadership?.tree {
        case .starting(start, _): notStarted(start, .cannotFork(errno: 11), &effects)
        // The deadline passed between the order and this news: there is nothing to be killed.
        case .dying(start, _): break
        default: return slip("\(start) is undelivered and not being started: \(leadership as Any)")
        }
        treeEmptied(at: now, &effects)
    }

    private mutating func guardKills(
        _ start: StartID, _ cause: KillCause, at now: Instant, _ effects: inout [Action]
    ) {
        switch cause {
        // The command ended by itself. The next answer says how. If this were taken for the end of a child that was
        // to be killed, the command would be started again at once, forever.
        case .childExited: return
        case .deadline: report(.killing(.guardDeadline), &effects)
        case .timerFailed: report(.killing(.guardTimerFailed), &effects)
        case .ordered, .nonsense, .keeperGone: break
        }
        guard leadership?.tree.living != nil else { return }
        // A guard without a timer cannot start a child either: restart with back-off, as after any failure of the
        // child.
        leadership?.tree = .dying(start, cause == .timerFailed ? .exited(.failedStart) : .killed)
        // The command is not started again before this machine has recovered.
        if cause == .deadline, isLate(at: now), leadership?.standing == .held(.run) {
            leadership?.standing = .held(.windDown(.recover))
        }
    }

    private mutating func treeEmptied(at now: Instant, _ effects: inout [Action]) {
        var startAt = now
        if let tree = leadership?.tree, leadership?.standing == .held(.run) {
            switch tree {
            case .dying(_, .killed): break
            case .dying(_, .cannotExecute(let errno)): planExit(.cannotExecute(errno: errno))
            case .dying(_, .exited(let exit)): startAt = afterExit(exit, at: now, &effects)
            // The tree is empty, and no answer has said how the command ended.
            case .starting, .running, .draining: startAt = afterExit(.failedStart, at: now, &effects)
            case .none, .fallen: break
            }
        }
        leadership?.tree = .none(startAt: startAt, since: now)
    }

    /// The child ended by itself. Returns when to start it again, or plans to give the lease up.
    private mutating func afterExit(_ exit: ChildExit, at now: Instant, _ effects: inout [Action]) -> Instant {
        if settings.once {
            planExit(.childEnded(exit))
            return now
        }
        switch restarts.noteExit(at: now, policy: settings.restarts) {
        case .restart(let wait, let attempt):
            // Others shall see that it leads without a child. Never before a release, which it would hold up.
            auxiliaries.register(at: now)
            report(.restarting(after: wait, attempt: attempt), &effects)
            return now + wait
        case .giveUp:
            report(.gaveUp(cooldown: settings.restarts.cooldown), &effects)
            leadership?.standing = .held(.windDown(.coolDown))
            return now
        }
    }

    mutating func stopLeading(at now: Instant, _ effects: inout [Action]) {
        guard let leadership else { return }
        switch leadership.tree {
        case .none, .fallen, .dying:
            // An exit that is already planned keeps its reason, and so its exit code.
            if !leadership.standing.endsInExit { planExit(.stopped(killed: false)) }
        case .starting(let start, _), .running(let start):
            stopping == .now ? killAtOnce(start, &effects) : drain(start, at: now, &effects)
        case .draining(let start, _): if stopping == .now { killAtOnce(start, &effects) }
        }
    }

    private mutating func killAtOnce(_ start: StartID, _ effects: inout [Action]) {
        planExit(.stopped(killed: true))
        kill(start, .stoppedAtOnce, &effects)
    }

    private mutating func drain(_ start: StartID, at now: Instant, _ effects: inout [Action]) {
        planExit(.stopped(killed: false))
        report(.draining(grace: settings.grace), &effects)
        effects.append(.order(.signal(start, number: 15)))
        // SIGCONT, because a stopped command could not take the SIGTERM and would use up the whole grace period.
        effects.append(.order(.signal(start, number: 18)))
        let killAt = now + settings.grace
        leadership?.tree = .draining(start, killAt: killAt)
    }

    func forward(_ signal: Int32, _ effects: inout [Action]) {
        if let start = leadership?.tree.living {
            effects.append(.order(.signal(start, number: signal)))
        }
    }
}
