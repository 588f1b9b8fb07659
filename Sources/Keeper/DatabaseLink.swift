// The keeper's one session: opened, prepared, asked, closed, and its news turned into the protocol's events. It decides
// nothing about the lease.

import Clock
import Glibc
import Helpers
import Lease
import Metastore
import Postgres
import Settings
import Text

/// Carries the machine's statements to the database and the answers back.
struct DatabaseLink {
    /// What came of advancing the session.
    enum News {
        case event(Event)
        case ready(SessionFacts)
        case unfenced(Unfenced, SessionFacts)
        case credentials(CredentialFeed.News)
    }

    private enum Stage {
        /// Something is being read that may change the credentials; connects at the latest then.
        case awaitingCredentials(until: Instant)
        case preparing(Preparation)
        case ready(SessionFacts)
        case asking(Statement, SessionFacts)
    }

    /// Undefined table, schema or column.
    private static let schemaIsGone = ["42P01", "3F000", "42703"]

    private let settings: RunSettings
    private var credentials: CredentialFeed
    private var session: Session?
    private var id = SessionID(0)
    private var stage: Stage?
    /// When a session was last given up because the schema had changed.
    private var preparedAgain: Instant?
    private(set) var statements: Statements
    /// Where the session is connected to, for messages.
    var peer: (name: String, encrypted: Bool) { (session?.peer ?? "?", session?.isTLS ?? false) }

    private var callLimit: Duration { settings.timing.callLimit }

    init(settings: RunSettings, helpers: HelperPrograms) {
        self.settings = settings
        credentials = CredentialFeed(settings.database, helpers: helpers)
        statements = Statements(
            identity: settings.identity, timing: settings.timing, version: Version.current)
    }

    /// What the session connects with now.
    var connection: ConnectionSettings { credentials.settings }

    /// What poll(2) shall watch for the session.
    var pollDescriptors: [(fd: Int32, events: Int16)] {
        (session?.pollDescriptors ?? []) + (credentials.descriptor.map { [($0, Int16(POLLIN))] } ?? [])
    }

    /// When to advance at the latest.
    var deadline: Instant? {
        if case .awaitingCredentials(let until) = stage { until } else { session?.deadline }
    }

    mutating func open(_ id: SessionID) {
        session?.close()
        session = nil
        self.id = id
        if credentials.prepare() {
            stage = .awaitingCredentials(until: BootClock.now() + callLimit)
        } else {
            connect()
        }
    }

    private mutating func connect() {
        stage = nil
        let seconds = Duration.seconds(1)
        let limits = Limits(
            attempt: callLimit, connect: settings.timing.life, keepaliveIdle: max(seconds, callLimit),
            keepaliveInterval: max(seconds, callLimit), keepaliveCount: 3, userTimeout: settings.timing.ttl)
        session = Session(
            settings: credentials.settings,
            applicationName: "sidecar-keeper:\(settings.identity.lease):\(settings.identity.node)", limits: limits)
    }

    mutating func close(_ id: SessionID) {
        guard id == self.id else { return }
        session?.close()
        session = nil
        stage = nil
    }

    mutating func send(_ statement: Statement, through id: SessionID) {
        // A session that broke a moment ago says so on its next advance.
        guard id == self.id, let session, session.isIdle, case .ready(let facts) = stage else { return }
        stage = .asking(statement, facts)
        ask(statements.query(statement), session)
    }

    /// Reads whatever there is.
    mutating func advance() -> [News] {
        var news = credentials.takeNews().map { News.credentials($0) }
        if case .awaitingCredentials(let until) = stage {
            guard !credentials.isReading || BootClock.now() >= until else { return news }
            if credentials.isReading { credentials.overdue(after: callLimit) }
            connect()
        }
        guard let session else { return news }
        for event in session.advance(now: BootClock.now()) {
            switch event {
            case .connected:
                credentials.loggedIn()
                prepare(session)
            case .result(let result): news += answered(result, session)
            case .queryFailed(let error): news += failed(error, session)
            // Not asked for: listening is the listener's.
            case .notification: break
            case .lost(let failure):
                if failure.isRefusedSomewhere { credentials.loginRefused(at: BootClock.now()) }
                news.append(lost(failure.description, failure.isAuthentication ? .loginRefused : .other))
            }
        }
        return news
    }

    private mutating func prepare(_ session: Session) {
        let preparation = Preparation(
            purpose: .lead(callLimit: callLimit, idleLimit: settings.timing.idleSessionLimit),
            protocolPID: session.backendPID ?? 0, allowSessionPooler: settings.allowSessionPooler)
        stage = .preparing(preparation)
        ask(preparation.first, session)
    }

    /// A session that broke within the same batch of events takes no question any more; its loss follows.
    private func ask(_ query: Query, _ session: Session) {
        guard session.isIdle else { return }
        session.send(query, now: BootClock.now(), limit: callLimit)
    }

    private mutating func answered(_ result: QueryResult, _ session: Session) -> [News] {
        switch stage {
        case .preparing(var preparation):
            let step = preparation.next(after: result)
            return prepared(preparation, step, session)
        case .asking(let statement, let facts):
            stage = .ready(facts)
            if statement == .observe, let pid = Statements.backend(result), pid != facts.backendPID {
                return refused(.pooler)
            }
            do {
                let reply = try statements.reply(to: statement, result)
                var news: [News] = [.event(.reply(id, reply))]
                switch statement {
                case .claim, .renew, .resume:
                    if let unfenced = Statements.unfenced(result) { news.insert(.unfenced(unfenced, facts), at: 0) }
                default: break
                }
                return news
            } catch {
                return [.event(.statementFailed(id, reason: "\(error)"))]
            }
        case .ready, .awaitingCredentials, nil: return []
        }
    }

    private mutating func prepared(
        _ preparation: Preparation, _ step: Preparation.Step, _ session: Session
    ) -> [News] {
        switch step {
        case .query(let query):
            stage = .preparing(preparation)
            ask(query, session)
            return []
        case .ready(let facts):
            stage = .ready(facts)
            statements.database = facts.database
            statements.backend = facts.backend
            return [.ready(facts), .event(.sessionOpened(id, backend: facts.backend))]
        case .refuse(let error): return refused(error)
        }
    }

    private mutating func failed(_ error: ServerError, _ session: Session) -> [News] {
        switch stage {
        case .preparing(var preparation):
            let step = preparation.next(after: error)
            return prepared(preparation, step, session)
        case .asking(let statement, let facts):
            if Self.schemaIsGone.contains(error.sqlState), statement != .auxiliary(.rehearse), isTimeToPrepareAgain() {
                // Dropped, or a backup without it restored: a new session makes it again where it may.
                return [lost("the schema \"sidecar\" is not what it was: \(error)")]
            }
            stage = .ready(facts)
            let reason = "PostgreSQL refused a statement: \(Advice.text(error, role: facts.grantee))"
            return [.event(.statementFailed(id, reason: reason, lasting: Advice.isLasting(error)))]
        case .ready, .awaitingCredentials, nil: return [lost("PostgreSQL: \(error)")]
        }
    }

    /// A schema that is there and has been changed is not mended by a new session, and each costs a standby its watch (R3).
    private mutating func isTimeToPrepareAgain() -> Bool {
        let now = BootClock.now()
        if let preparedAgain, now.since(preparedAgain) < settings.timing.prepareAgainInterval { return false }
        preparedAgain = now
        return true
    }

    private mutating func refused(_ error: PreparationError) -> [News] {
        [lost(error.description, error.isPermanent ? .unusable : .other)]
    }

    private mutating func lost(_ reason: String, _ cause: SessionLoss = .other) -> News {
        session?.close()
        session = nil
        stage = nil
        return .event(.sessionLost(id, reason: reason, cause: cause))
    }
}
