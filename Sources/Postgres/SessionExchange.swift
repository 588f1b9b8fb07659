// The connected half of a session: answers and notifications are read as they arrive. A session that breaks says why,
// with the server's own message if the server had the time to send one.

import Clock
import Text

extension Session {
    /// Reads what is there; `exchange` is the query under way, if one is.
    func receive(_ connection: LibPQConnection, _ candidate: Candidate, _ exchange: Exchange?, now: Instant) {
        let isAlive = connection.consumeInput()
        // Also after a failure, because notifications that came before it count.
        while let (channel, payload) = connection.nextNotification() {
            pending.append(.notification(channel: channel, payload: payload))
        }
        if var exchange {
            if exchange.flush == .pending { exchange.flush = connection.flush() }
            collect(connection, candidate, &exchange, now: now)
        }
        guard case .over = state else {
            if !isAlive || connection.isBad { lose(connection, candidate) }
            return
        }
    }

    /// Takes the complete results. The query is done when libpq says that there are no more, and not earlier.
    private func collect(
        _ connection: LibPQConnection, _ candidate: Candidate, _ exchange: inout Exchange, now: Instant
    ) {
        while true {
            switch connection.nextResult() {
            case .result(let result):
                if case .failure = exchange.outcome { continue }
                exchange.outcome = .success(result)
            case .error(let error):
                if error.endsSession || connection.isBad { return lose(connection, candidate, error) }
                if case .failure = exchange.outcome { continue }
                exchange.outcome = .failure(error)
            case .unsupported(let reason):
                connection.abandon()
                return end(.broken(peer: candidate.description, reason: reason))
            case .notYet where connection.isBad:
                // Nothing more will come; `receive` reports why.
                return
            case .notYet:
                if now >= exchange.deadline {
                    connection.abandon()
                    return end(.queryTimeout(peer: candidate.description, limit: exchange.limit))
                }
                state = .busy(connection, candidate, exchange)
                return
            case .end:
                state = .idle(connection, candidate)
                switch exchange.outcome {
                case .success(let result): pending.append(.result(result))
                case .failure(let error): pending.append(.queryFailed(error))
                case nil: lose(connection, candidate)
                }
                return
            }
        }
    }

    /// The connection is gone: with the server's reason, if it gave one, else with libpq's.
    func lose(_ connection: LibPQConnection, _ candidate: Candidate, _ error: ServerError? = nil) {
        let peer = candidate.description
        let reason = oneLine(connection.errorMessage)
        let said = connection.farewell ?? error.flatMap { $0.endsSession ? $0 : nil }
        connection.abandon()
        if let said {
            end(.serverClosed(peer: peer, said))
        } else {
            end(.broken(peer: peer, reason: reason.isEmpty ? "the connection failed" : reason))
        }
    }

    private func end(_ failure: SessionFailure) {
        state = .over
        pending.append(.lost(failure))
    }
}
