// The lease's session with PostgreSQL, as the loop knows it: connected with the credentials of the moment, prepared,
// asked in SQL, read as the protocol's replies.

import Clock
import Glibc
import Helpers
import Lease
import Metastore
import Outlets
import Postgres
import Settings
import Text

/// The one session, through libpq.
struct DatabaseSession: DatabasePort {
    typealias Word = Announcement
    typealias News = SessionNews<Word>

    private enum Stage {
        /// Something is being read that may change the credentials; connects at the latest then.
        case awaitingCredentials(until: Instant)
        case preparing(Preparation)
        case ready(SessionFacts)
    }

    /// Undefined table, schema or column.
    private static let schemaIsGone = ["42P01", "3F000", "42703"]

    private let settings: RunSettings
    private var credentials: CredentialFeed
    private var session: Session?
    private var stage: Stage?
    private var statements: Statements

    private var callLimit: Duration { settings.timing.callLimit }

    init(settings: RunSettings, helpers: HelperPrograms) {
        self.settings = settings
        credentials = CredentialFeed(settings.database, helpers: helpers)
        statements = Statements(
            identity: settings.identity, timing: settings.timing, version: Version.current)
    }

    /// What the session connects with now.
    var connection: ConnectionSettings { credentials.settings }

    var name: String { statements.database }

    /// What poll(2) shall watch for the session.
    var pollDescriptors: [(fd: Int32, events: Int16)] {
        (session?.pollDescriptors ?? []) + (credentials.descriptor.map { [($0, Int16(POLLIN))] } ?? [])
    }

    var deadline: Instant? {
        if case .awaitingCredentials(let until) = stage { until } else { session?.deadline }
    }

    var isIdle: Bool {
        guard let session, session.isIdle, case .ready = stage else { return false }
        return true
    }

    mutating func open() {
        session?.close()
        session = nil
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

    mutating func close() {
        session?.close()
        session = nil
        stage = nil
    }

    mutating func ask(_ statement: Statement) {
        guard let session else { return }
        ask(statements.query(statement), session)
    }

    mutating func advance(_ asked: Statement?, at now: Instant) -> [News] {
        var news = credentials.takeNews().map { News.word(Self.announced($0)) }
        if case .awaitingCredentials(let until) = stage {
            guard !credentials.isReading || now >= until else { return news }
            if credentials.isReading { credentials.overdue(after: callLimit) }
            connect()
        }
        guard let session else { return news }
        // At most one is under way.
        var asked = asked
        for event in session.advance(now: now) {
            switch event {
            case .connected:
                credentials.loggedIn()
                prepare(session)
            case .result(let result):
                news += answered(result, to: asked, session)
                asked = nil
            case .queryFailed(let error):
                news += failed(error, asked, session)
                asked = nil
            // Not asked for: listening is the listener's.
            case .notification: break
            case .lost(let failure):
                if failure.isRefusedSomewhere { credentials.loginRefused(at: now) }
                news.append(.lost(reason: failure.description, failure.isAuthentication ? .loginRefused : .other))
            }
            // Whoever says that it is lost has said the last of it.
            if case .lost = news.last { break }
        }
        return news
    }

    private static func announced(_ news: CredentialFeed.News) -> Announcement {
        switch news {
        case .problem(let text): .credentialsProblem(text)
        case .changed(let origin): .credentialsChanged(origin: origin)
        }
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

    private mutating func answered(_ result: QueryResult, to asked: Statement?, _ session: Session) -> [News] {
        switch stage {
        case .preparing(var preparation):
            let step = preparation.next(after: result)
            return prepared(preparation, step, session)
        case .ready(let facts):
            guard let asked else { return [] }
            if asked == .observe, let pid = Statements.backend(result), pid != facts.backendPID {
                return refused(.pooler)
            }
            return read(result, to: asked, facts)
        case .awaitingCredentials, nil: return []
        }
    }

    private func read(_ result: QueryResult, to asked: Statement, _ facts: SessionFacts) -> [News] {
        do {
            let reply = try statements.reply(to: asked, result)
            switch asked {
            case .claim, .renew, .resume:
                guard let unfenced = Statements.unfenced(result) else { break }
                return [.word(.unfenced(unfenced, facts)), .answered(reply)]
            default: break
            }
            return [.answered(reply)]
        } catch {
            return [.failed(reason: "\(error)", lasting: false, schemaLost: nil)]
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
            let word = Announcement.connected(
                peer: session.peer ?? "?", serverVersion: facts.serverVersion, encrypted: session.isTLS ?? false)
            return [.word(word), .opened(facts.backend)]
        case .refuse(let error): return refused(error)
        }
    }

    private mutating func failed(_ error: ServerError, _ asked: Statement?, _ session: Session) -> [News] {
        switch stage {
        case .preparing(var preparation):
            let step = preparation.next(after: error)
            return prepared(preparation, step, session)
        case .ready(let facts):
            guard asked != nil else { break }
            let schemaLost =
                Self.schemaIsGone.contains(error.sqlState)
                ? "the schema \"sidecar\" is not what it was: \(error)" : nil
            let reason = "PostgreSQL refused a statement: \(Advice.text(error, role: facts.grantee))"
            return [.failed(reason: reason, lasting: Advice.isLasting(error), schemaLost: schemaLost)]
        case .awaitingCredentials, nil: break
        }
        return [.lost(reason: "PostgreSQL: \(error)", .other)]
    }

    private func refused(_ error: PreparationError) -> [News] {
        [.lost(reason: error.description, error.isPermanent ? .unusable : .other)]
    }
}
