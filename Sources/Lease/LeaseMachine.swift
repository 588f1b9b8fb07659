// The protocol as a pure state machine: events in, actions out. It reads no clock and does no I/O: every event comes
// with an instant that was read after the event arrived, and every statement it returns is sent after that instant.
//
// What it guarantees, provided that the guard kills at its deadline: a child is started only under a claim or renewal
// of our own that succeeded. It lives at most TTL - margin from the moment when the last successful one was sent
// (R2). The record is released only when the tree is known to be empty (R7). Every event updates the state that it
// concerns. Then everything that is due is performed (Due.swift). So an action depends on the state, not on the order
// in which events came.

import Clock
import Orders

/// One sidecar's half of the protocol (design rules R1-R12).
public struct LeaseMachine: Hashable, Sendable {
    /// What does not change while it runs.
    public struct Settings: Hashable, Sendable {
        public let identity: Identity
        public let timing: Timing
        public let restarts: RestartPolicy
        /// How long a child may take to end after SIGTERM.
        public let grace: Duration
        /// End with the child instead of restarting it.
        public let once: Bool
        /// Kill the child at the first lost session instead of resuming.
        public let killOnSessionLoss: Bool
        /// How long the command's exec may take; see `Timing.usualStartLimit`.
        public let startLimit: Duration
        /// End after nothing but refused logins for so long; nil: never.
        public let authFailureLimit: Duration?
        /// When it counts as ready.
        public let readyWhen: ReadyWhen

        public init(
            identity: Identity, timing: Timing, restarts: RestartPolicy, grace: Duration, once: Bool = false,
            killOnSessionLoss: Bool = false, startLimit: Duration = Timing.usualStartLimit,
            authFailureLimit: Duration? = nil,
            readyWhen: ReadyWhen = .healthy
        ) {
            self.identity = identity
            self.timing = timing
            self.restarts = restarts
            self.grace = grace
            self.once = once
            self.killOnSessionLoss = killOnSessionLoss
            self.startLimit = startLimit
            self.authFailureLimit = authFailureLimit
            self.readyWhen = readyWhen
        }
    }

    let settings: Settings
    var link: Link
    var role: Role
    var guardian = Guardian.unasked
    var stopping: Stopping?
    /// The leaderships seen lately (R3).
    var seen = Seen()
    /// The longest TTL among them, or our own (R3, R10).
    var largestTTL: Duration
    /// The highest epoch seen: the floor of the next claim's.
    var highestEpoch = Epoch(0)
    /// The sessions this process has had, as the server names them, oldest first. A record that another session
    /// renewed is not ours, whatever it says of the holder: of two copies of one sidecar only one goes on (R5, R6,
    /// R9).
    var backends: [BackendID] = []
    /// Which records may be ours although we lead nothing (R9).
    var ownEpochs = OwnEpochs()
    var restarts = Restarts()
    var auxiliaries: AuxiliaryQueue
    var notifications = Notifications()
    /// What PostgreSQL refuses this sidecar, as a standby.
    var refusal: Refusal?
    /// When that was last reported.
    var refusalReportedAt: Instant?
    /// When to rehearse a claim; nil when its result is known.
    var rehearseAt: Instant?
    /// This sidecar has made the record and not seen it since (R10).
    var recordMade = false
    /// Why the last session ended, until the next one is open.
    var lastLoss: String?
    /// When the database last answered.
    var lastContact: Instant?
    /// When the unbroken series of refused logins began that lasts until now.
    var loginsRefusedSince: Instant?
    var lastStart = StartID(0)
    var lastToken: UInt64 = 0
    /// How late the guard is (R2, R5).
    var lateness = Lateness()
    /// Some processes that the keeper itself kills do not die.
    var isStuck = false
    var lastSession = SessionID(0)
    /// Conditions that last and have been reported.
    var reported: Set<Condition> = []

    /// Conditions that are reported once, until they pass.
    enum Condition: Hashable, Sendable {
        /// A standby that could not hold the lease.
        case unfit
        case stranger
        case suspension
        case watching(Epoch)
        case starving
    }

    /// A machine that has seen nothing yet. Feed it `.tick` to set it going.
    public init(settings: Settings, at now: Instant) {
        self.settings = settings
        link = .down(retryAt: now, failures: 0)
        role = .standby(.fresh(at: now))
        largestTTL = settings.timing.ttl
        auxiliaries = AuxiliaryQueue(registerAt: now)
    }

    var timing: Timing { settings.timing }

    /// Takes one event that had arrived by `now` and returns what to do, in order.
    public mutating func handle(_ event: Event, at now: Instant) -> [Action] {
        var effects: [Action] = []
        handle(event, at: now, appendingTo: &effects)
        return effects
    }

    /// The same for a caller that keeps a list of what is still to do, as the simulation does. Nothing is copied.
    mutating func handle(_ event: Event, at now: Instant, appendingTo effects: inout [Action]) {
        loseIfExpired(at: now, &effects)
        take(event, at: now, &effects)
        var done = 0
        while let duty = due(by: now).first {
            perform(duty, at: now, &effects)
            done += 1
            if done == 100 { slip("\(duty) is due again and again") }
        }
    }

    private mutating func take(_ event: Event, at now: Instant, _ effects: inout [Action]) {
        if case .ended = role { return }
        switch event {
        case .sessionOpened(let id, let backend): sessionOpened(id, backend, at: now)
        case .sessionLost(let id, let reason, let cause):
            sessionLost(id, reason: reason, cause: cause, at: now, &effects)
        case .reply(let id, let reply): replied(id, reply, at: now, &effects)
        case .statementFailed(let id, let reason, let lasting):
            statementFailed(id, reason: reason, lasting: lasting, at: now, &effects)
        case .notified: notifications.heard(at: now, interval: timing.notificationInterval)
        case .guardAnswered(let answer): guardAnswered(answer, at: now, &effects)
        case .guardGone: guardGone(&effects)
        case .guardFailed: guardFailed(&effects)
        case .descendantsGone: descendantsGone(at: now, &effects)
        case .nothingAliveBelowGuard: nothingAliveBelowGuard(at: now, &effects)
        case .survivors(let processes): survivors(processes, &effects)
        case .startUndelivered(let start): startUndelivered(start, at: now, &effects)
        case .stopRequested(let request): stopRequested(request, at: now, &effects)
        case .signalReceived(let number): forward(number, &effects)
        case .tick: break
        }
    }

    /// Reports a notice, with the epoch of the present leadership.
    func report(_ notice: Notice, _ effects: inout [Action]) {
        effects.append(.report(notice, epoch: leadership?.epoch))
    }

    /// Reports only when the condition is new.
    mutating func reportOnce(_ condition: Condition, _ notice: Notice, _ effects: inout [Action]) {
        if reported.insert(condition).inserted { report(notice, &effects) }
    }
}

// MARK: - The session

extension LeaseMachine {
    mutating func openSession(_ effects: inout [Action]) {
        guard case .down(_, let failures) = link else { return }
        lastSession = SessionID(lastSession.rawValue + 1)
        link = .opening(lastSession, failures: failures)
        effects.append(.openSession(lastSession))
    }

    private mutating func sessionOpened(_ id: SessionID, _ backend: BackendID, at now: Instant) {
        guard case .opening(id, _) = link else { return unexpected("opened", of: id) }
        link = .idle(id)
        seen.restart(at: now)
        // Statements of earlier sessions may still arrive late, and what they write is ours, too. The list is
        // bounded.
        backends.append(backend)
        if backends.count > 32 { backends.removeFirst() }
        lastContact = now
        lastLoss = nil
        loginsRefusedSince = nil
        auxiliaries.register(at: now)
        rehearseSoon(at: now)
        pollNow(at: now)
    }

    private mutating func sessionLost(
        _ id: SessionID, reason: String, cause: SessionLoss, at now: Instant, _ effects: inout [Action]
    ) {
        guard link.session == id else { return }
        var failures = 0
        switch link {
        case .opening(_, let earlier): failures = earlier + 1
        case .busy(_, .auxiliary, _): pauseAuxiliaries(at: now)
        case .busy(_, .claim(let seen, _, _), _): ownEpochs.claimUnanswered(over: seen.epoch)
        case .down, .idle, .busy: break
        }
        link = .down(retryAt: now + timing.reconnectPause(afterFailures: failures), failures: failures)
        lastLoss = reason
        if cause == .unusable, backends.isEmpty, !isLeaving { return databaseUnusable(reason, at: now, &effects) }
        report(.sessionLost(reason: reason), &effects)
        switch role {
        case .standby:
            // A watch counts only for its own session. With a new session its time starts again (R3).
            update { $0.intention = .observe(at: now) }
        case .leading: leaderLostSession(id, at: now, &effects)
        case .leaving, .ended: break
        }
        switch cause {
        case .loginRefused: loginRefused(at: now, &effects)
        case .unusable, .other: loginsRefusedSince = nil
        }
    }

    /// After refused logins for long enough this sidecar is of no use, and a restart may bring other credentials. A
    /// leader never exits this way, because it may have a living child. Without a session its lease expires anyway,
    /// and then it is a standby.
    private mutating func loginRefused(at now: Instant, _ effects: inout [Action]) {
        let since = loginsRefusedSince ?? now
        loginsRefusedSince = since
        guard let limit = settings.authFailureLimit, now.since(since) >= limit, case .standby = role else { return }
        report(.loginsRefused(now.since(since)), &effects)
        leave(.loginsRefused, at: now)
    }

    /// The database was never usable and cannot be until a person changes something. The sidecar exits, so that
    /// people see it at once. A database that was usable before may be usable again.
    private mutating func databaseUnusable(_ reason: String, at now: Instant, _ effects: inout [Action]) {
        report(.databaseUnusable(reason: reason), &effects)
        leave(.databaseUnusable, at: now)
    }

    private mutating func replied(_ id: SessionID, _ reply: Reply, at now: Instant, _ effects: inout [Action]) {
        guard case .busy(id, let statement, let sentAt) = link else { return unexpected("\(reply)", of: id) }
        link = .idle(id)
        lastContact = now
        if case .auxiliary(let auxiliary) = statement {
            if auxiliary == .rehearse { rehearsed(at: now, &effects) }
            return
        }
        switch role {
        case .standby: standbyGot(reply, to: statement, sentAt: sentAt, through: id, at: now, &effects)
        case .leading: leaderGot(reply, sentAt: sentAt, through: id, at: now, &effects)
        case .leaving, .ended: break
        }
    }

    private mutating func statementFailed(
        _ id: SessionID, reason: String, lasting: Bool, at now: Instant, _ effects: inout [Action]
    ) {
        guard case .busy(id, let statement, _) = link else { return unexpected(reason, of: id) }
        link = .idle(id)
        if case .standby = role { refused(statement, reason: reason, lasting: lasting, at: now, &effects) }
        // A refusal that counts is reported once, not every time.
        let isReported = refusedBecause != nil && statement.refusalStep == refusal?.step
        if !isReported { report(.statementFailed(reason: reason), &effects) }
        switch statement {
        case .auxiliary(.rehearse): return
        case .auxiliary: return pauseAuxiliaries(at: now)
        // The lock may still be held. Only the end of the session is sure to drop it.
        case .unlock, .release: dropSession(at: now, &effects)
        default: break
        }
        switch role {
        case .standby: standbyFailed(statement, at: now)
        case .leading: leaderFailed(at: now, &effects)
        case .leaving, .ended: break
        }
    }

    /// A session that was given up may still have said something. From the present session comes only what it was
    /// asked for.
    private func unexpected(_ news: @autoclosure () -> String, of id: SessionID) {
        if link.session == id { slip("\(news()) of \(link)") }
    }

    private mutating func dropSession(at now: Instant, _ effects: inout [Action]) {
        guard let id = link.session else { return }
        effects.append(.closeSession(id))
        link = .down(retryAt: now + timing.reopenPause, failures: 0)
    }

    private mutating func pauseAuxiliaries(at now: Instant) {
        auxiliaries.pause(until: now + largestTTL * Timing.ttlsOfAuxiliaryPause)
    }

    /// Sends the statement if the session is idle. Otherwise does nothing.
    mutating func send(_ statement: Statement, at now: Instant, _ effects: inout [Action]) {
        guard case .idle(let id) = link else { return }
        link = .busy(id, statement, sentAt: now)
        effects.append(.send(id, statement))
    }

    mutating func register(at now: Instant, _ effects: inout [Action]) {
        auxiliaries.registerAt = now + timing.registerInterval
        send(.auxiliary(.register(leading: leadership != nil, healthy: snapshot(at: now).isHealthy)), at: now, &effects)
    }
}

// MARK: - Stopping

extension LeaseMachine {
    private mutating func stopRequested(_ request: StopRequest, at now: Instant, _ effects: inout [Action]) {
        let wanted: Stopping =
            switch request {
            case .now: .now
            case .drain: stopping == nil ? .drain : .now
            case .terminalGone: .drain
            }
        stopping = max(stopping ?? wanted, wanted)
        if case .leading = role { stopLeading(at: now, &effects) }
    }

    /// The lease is settled. Leave the list of members, if the session allows it, then exit.
    mutating func leave(_ exit: Exit, at now: Instant) {
        auxiliaries.add(.leave, at: now)
        role = .leaving(exit, by: now + timing.farewellLimit)
    }

    /// Whether the lease is settled.
    var isLeaving: Bool {
        switch role {
        case .standby, .leading: false
        case .leaving, .ended: true
        }
    }

    mutating func end(_ exit: Exit, _ effects: inout [Action]) {
        if let id = link.session { effects.append(.closeSession(id)) }
        role = .ended
        effects.append(.exit(exit))
    }
}
