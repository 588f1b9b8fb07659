// What a new session goes through before the protocol may use it. First it must be exactly one
// PostgreSQL backend (no transaction pooler), a primary, and new enough. Then come its settings,
// then the schema. Questions and answers without I/O, so that the keeper's loop and the
// command-line tools share them.
//
// Nothing runs under the defaults of a role or a database. With their search_path, another role's
// function could replace one of PostgreSQL's and run with this role's rights. So the first question
// sets what it needs for itself alone, and the session's settings come next. They cannot come
// first: behind a pooler in transaction mode, they would stay for the next client.

import Clock
import Lease
import Postgres

/// What is known about the server behind a prepared session.
public struct SessionFacts: Equatable, Sendable {
    /// The backend's process id, as the server says.
    public var backendPID: Int32
    /// When the backend started, in microseconds of the unix epoch. The pid alone is used again;
    /// together they identify the session.
    public var backendStart: Int64
    /// As in `server_version_num`, for example 150018.
    public var serverVersion: Int
    public var database: String
    /// The role whose rights count (`current_user`).
    public var user: String
    /// The role that logged in (`session_user`). PostgreSQL decides by this role who may terminate
    /// the session.
    public var login: String
    /// The role that `ALTER ROLE ... SET role` (Vault's dynamic credentials) gave the session at
    /// its start; nil when none.
    public var assumed: String?
    /// The version of the schema, 0 when there is none.
    public var schemaVersion: Int

    /// The session's name at the server.
    public var backend: BackendID { BackendID(pid: backendPID, startedAt: backendStart) }

    /// The role to grant what this sidecar lacks. Never a login that is about to expire.
    public var grantee: String { assumed ?? user }
}

/// The steps of preparing one session.
public struct Preparation: Sendable {
    /// What to do next.
    public enum Step: Sendable {
        case query(Query)
        case ready(SessionFacts)
        case refuse(PreparationError)
    }

    /// How far to go.
    public enum Purpose: Sendable {
        /// Everything, creating or upgrading the schema where that is allowed.
        case lead(callLimit: Duration, idleLimit: Duration)
        /// Look only: an absent schema is reported, not created.
        case look
        /// Create or upgrade the schema.
        case migrate
    }

    private enum State {
        case identity
        case settings(SessionFacts, hasSchema: Bool)
        case schema(SessionFacts)
        case migration(SessionFacts)
        case role(SessionFacts)
    }

    /// The longest call of the short commands.
    public static let toolCallLimit = Duration.seconds(10)
    private static let toolIdleLimit = Duration.seconds(60)

    private var state = State.identity
    /// How often a question was cancelled before its first SET had lifted the role's own time
    /// limit.
    private var cancelled = 0
    private let purpose: Purpose
    private let protocolPID: Int32
    private let allowSessionPooler: Bool

    /// `protocolPID`: the backend's process id as the connection's start-up said it.
    public init(purpose: Purpose, protocolPID: Int32, allowSessionPooler: Bool) {
        self.purpose = purpose
        self.protocolPID = protocolPID
        self.allowSessionPooler = allowSessionPooler
    }

    /// The first question.
    public var first: Query { Identify().alone(limit: Self.serverLimit(limits.call)) }

    private var limits: (call: Duration, idle: Duration) {
        switch purpose {
        case .lead(let callLimit, let idleLimit): (callLimit, idleLimit)
        case .look, .migrate: (Self.toolCallLimit, Self.toolIdleLimit)
        }
    }

    /// The next step after the answer to the last question. An answer that does not fit the
    /// question, or that cannot be read, is a failure like the server's own and is tried again. It
    /// is never guessed, and it never ends the process.
    public mutating func next(after result: QueryResult) -> Step {
        do {
            return try step(after: result)
        } catch {
            return .refuse(.failed("\(error)"))
        }
    }

    private mutating func step(after result: QueryResult) throws(UnreadableReply) -> Step {
        switch state {
        case .identity: return identified(try Identify().read(result))
        case .settings(let facts, let hasSchema):
            guard hasSchema else { return upgraded(facts) }
            state = .schema(facts)
            return .query(ReadSchemaVersion().query)
        case .schema(var facts):
            let schema = try ReadSchemaVersion().read(result)
            facts.schemaVersion = schema.version
            guard schema.compatibleFrom <= Schema.current else {
                return .refuse(.schemaTooNew(version: facts.schemaVersion))
            }
            return upgraded(facts)
        case .migration(var facts):
            facts.schemaVersion = Schema.current
            return steppedBack(facts)
        case .role(var facts):
            if try BecomeLogin().read(result) { facts.user = facts.login }
            return .ready(facts)
        }
    }

    /// The next step after the server answered the last question with an error.
    public mutating func next(after error: ServerError) -> Step {
        // A role's statement_timeout of a millisecond may strike before the SET that lifts it.
        if error.sqlState == "57014", cancelled < 20 {
            cancelled += 1
            switch state {
            case .identity: return .query(first)
            case .settings(let facts, _): return .query(settings(facts))
            case .schema, .migration, .role: break
            }
        }
        return .refuse(explain(error))
    }

    private func explain(_ error: ServerError) -> PreparationError {
        switch state {
        case .schema(let facts), .migration(let facts):
            if error.sqlState == "42501" {
                if case .schema = state { return .tablesNotAllowed(user: facts.user, database: facts.database) }
                return .notAllowed(user: facts.user, database: facts.database)
            }
            if error.sqlState == "55P03" { return .migrationUnderWay }
        case .identity, .role, .settings: break
        }
        return .failed(error.description)
    }

    private mutating func identified(_ answer: Identify.Answer) -> Step {
        let facts = answer.facts
        guard allowSessionPooler || facts.backendPID == protocolPID else { return .refuse(.pooler) }
        guard facts.serverVersion >= 120_000 else { return .refuse(.serverTooOld(version: facts.serverVersion)) }
        guard !answer.isInRecovery else { return .refuse(.standbyServer) }
        state = .settings(facts, hasSchema: answer.hasSchema)
        return .query(settings(facts))
    }

    private func settings(_ facts: SessionFacts) -> Query {
        Self.settings(callLimit: limits.call, idleLimit: limits.idle, serverVersion: facts.serverVersion)
    }

    private mutating func upgraded(_ facts: SessionFacts) -> Step {
        switch purpose {
        case .look: return steppedBack(facts)
        case .lead, .migrate:
            guard let script = Schema.upgrade(from: facts.schemaVersion) else { return steppedBack(facts) }
            state = .migration(facts)
            return .query(.script(script))
        }
    }

    /// Works as the login role from here on, if that role has the rights itself. PostgreSQL lets
    /// only a session's login role see the session's start and terminate it. As another role, a
    /// sidecar could terminate neither its own former session nor its child's (R4, R6, R8). The
    /// schema is created before this, by the role that is meant to own it.
    private mutating func steppedBack(_ facts: SessionFacts) -> Step {
        if case .migrate = purpose { return .ready(facts) }
        guard facts.assumed != nil, facts.schemaVersion > 0 else { return .ready(facts) }
        state = .role(facts)
        return .query(BecomeLogin().query)
    }
}
