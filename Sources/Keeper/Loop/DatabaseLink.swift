// The keeper's one session: opened, asked, closed, and its news turned into the protocol's events. It decides nothing
// about the lease.

import Clock
import Lease

/// Carries the machine's statements to the database and the answers back.
struct DatabaseLink<Port: DatabasePort> {
    /// What came of advancing the session.
    enum News {
        case event(Event)
        case word(Port.Word)
    }

    private enum Stage {
        case closed
        /// Being connected and prepared.
        case opening
        case ready
        case asking(Statement)

        var asked: Statement? { if case .asking(let statement) = self { statement } else { nil } }
    }

    var session: Port
    private let timing: Timing
    private var id = SessionID(0)
    private var stage = Stage.closed
    /// When a session was last given up because the schema had changed.
    private var preparedAgain: Instant?

    init(session: Port, timing: Timing) {
        self.session = session
        self.timing = timing
    }

    /// When to advance at the latest.
    var deadline: Instant? { session.deadline }

    mutating func open(_ id: SessionID) {
        self.id = id
        stage = .opening
        session.open()
    }

    mutating func close(_ id: SessionID) {
        guard id == self.id else { return }
        close()
    }

    private mutating func close() {
        session.close()
        stage = .closed
    }

    mutating func send(_ statement: Statement, through id: SessionID) {
        // A session that broke a moment ago says so on its next advance.
        guard id == self.id, case .ready = stage, session.isIdle else { return }
        stage = .asking(statement)
        session.ask(statement)
    }

    /// Reads whatever there is.
    mutating func advance(at now: Instant) -> [News] {
        var news: [News] = []
        for new in session.advance(stage.asked, at: now) { news.append(taken(new, at: now)) }
        return news
    }

    private mutating func taken(_ new: SessionNews<Port.Word>, at now: Instant) -> News {
        switch new {
        case .word(let word): return .word(word)
        case .opened(let backend):
            stage = .ready
            return .event(.sessionOpened(id, backend: backend))
        case .answered(let reply):
            if stage.asked == nil { slip("\(reply) to no statement") }
            stage = .ready
            return .event(.reply(id, reply))
        case .failed(let reason, let lasting, let schemaLost):
            if let schemaLost, stage.asked != .auxiliary(.rehearse), isTimeToPrepareAgain(at: now) {
                // Dropped, or a backup without it restored: a new session makes it again where it may.
                close()
                return .event(.sessionLost(id, reason: schemaLost))
            }
            stage = .ready
            return .event(.statementFailed(id, reason: reason, lasting: lasting))
        case .lost(let reason, let cause):
            close()
            return .event(.sessionLost(id, reason: reason, cause: cause))
        }
    }

    /// A schema that is there and has been changed is not mended by a new session, and each costs a standby its watch
    /// (R3).
    private mutating func isTimeToPrepareAgain(at now: Instant) -> Bool {
        if let preparedAgain, now.since(preparedAgain) < timing.prepareAgainInterval { return false }
        preparedAgain = now
        return true
    }
}
