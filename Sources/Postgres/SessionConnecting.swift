// The connecting half of a session: names are looked up, and candidates are tried one after the other, each within
// its own limit, until one becomes a session or none is left.

import Clock
import Glibc

extension Session {
    /// Starts the next attempt of a plan, or reports that there is none left.
    func tryNext(_ plan: ConnectPlan, now: Instant) {
        var plan = plan
        while true {
            let attemptDeadline = min(now + limits.attempt, plan.deadline)
            switch plan.next(now: now, limit: limits.connect) {
            case .lookUp(let entry, let name):
                let lookUp = resolver.lookUp(name)
                guard lookUp.descriptor >= 0 else {
                    plan.failed(entry.description, .resolve, "no file descriptor left to look its name up")
                    continue
                }
                state = .resolving(lookUp, entry, deadline: attemptDeadline, plan)
                return
            case .connect(let candidate):
                let parameters = candidate.parameters(settings, applicationName: applicationName, limits: limits)
                guard let connection = LibPQConnection(parameters) else {
                    plan.failed(candidate.description, .connect, "out of memory")
                    continue
                }
                guard !connection.isBad else {
                    plan.failed(candidate, connection)
                    continue
                }
                // libpq, "PQconnectStartParams": begin as if it had asked to wait for writing.
                state = .connecting(connection, candidate, events: Int16(POLLOUT), deadline: attemptDeadline, plan)
                return
            case .giveUp:
                state = .over
                pending.append(.lost(.connect(to: settings.description, plan.failures)))
                return
            }
        }
    }

    /// Takes a look-up's answer, or gives it up at its deadline.
    func advanceLookUp(
        _ lookUp: LookUp, _ entry: ConnectionSettings.Entry, _ deadline: Instant, _ plan: ConnectPlan, now: Instant
    ) {
        var plan = plan
        if let answer = lookUp.answer {
            plan.resolved(entry, answer)
        } else if now >= deadline {
            plan.failed(entry.description, .resolve, "the look-up of the host name has no answer yet")
        } else {
            return
        }
        tryNext(plan, now: now)
    }

    /// Takes libpq through as many steps as are possible without waiting.
    func advanceConnect(
        _ connection: LibPQConnection, _ candidate: Candidate, _ events: Int16, _ deadline: Instant,
        _ plan: ConnectPlan, now: Instant
    ) {
        var events = events
        var plan = plan
        // libpq opens a new socket when it falls back (sslmode=prefer), so the descriptor is read again in each
        // round.
        while connection.isReady(events) {
            switch connection.pollConnect() {
            case .reading: events = Int16(POLLIN)
            case .writing: events = Int16(POLLOUT)
            case .connected:
                state = .idle(connection, candidate)
                pending.append(.connected)
                return
            case .failed:
                plan.failed(candidate, connection)
                connection.abandon()
                return tryNext(plan, now: now)
            }
        }
        guard now >= deadline else {
            state = .connecting(connection, candidate, events: events, deadline: deadline, plan)
            return
        }
        let limit = deadline == plan.deadline ? limits.connect : limits.attempt
        plan.failed(candidate.description, .timeout, "no answer within \(limit)")
        connection.abandon()
        tryNext(plan, now: now)
    }
}

extension ConnectPlan {
    /// Notes why libpq could not connect to a candidate.
    fileprivate mutating func failed(_ candidate: Candidate, _ connection: LibPQConnection) {
        let message = ConnectMessage(connection.errorMessage, hiding: connection.secret)
        failed(
            candidate.description, message.isAuthentication ? .authentication : .connect, message.reason,
            sqlState: message.sqlState)
    }
}
