// What a fresh session goes through before the protocol may use it: is it really one PostgreSQL backend (no transaction
// pooler), a primary, new enough, with our schema; then its settings. Question and answer, no I/O, so that
// the keeper's loop and the command-line tools share it.

import Clock
import Lease
import Postgres

/// What is known about the server behind a prepared session.
public struct SessionFacts: Equatable, Sendable {
    /// The backend's process id, as the server says.
    public var backendPID: Int32
    /// When the backend started, in microseconds of the unix epoch. With the pid it names the session: pids come back.
    public var backendStart: Int64
    /// As in `server_version_num`, for example 150018.
    public var serverVersion: Int
    public var database: String
    /// The role whose rights count (`current_user`).
    public var user: String
    /// The role that logged in (`session_user`): the one that the session belongs to, for who wants to end it.
    public var login: String
    /// The role that `ALTER ROLE ... SET role` (Vault's dynamic credentials) gave the session at its start; nil when none.
    public var assumed: String?
    /// The version of the schema, 0 when there is none.
    public var schemaVersion: Int

    /// Whom to grant what this sidecar lacks: never credentials that are about to expire.
    public var grantee: String { assumed ?? user }
    /// The session's name at the server.
    public var backend: BackendID { BackendID(pid: backendPID, startedAt: backendStart) }
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
        case schema(SessionFacts)
        case migration(SessionFacts)
        case role(SessionFacts)
        case settings(SessionFacts)
    }

    private var state = State.identity
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
    ///
    /// When a session began is told to its login role only, and `ALTER ROLE ... SET role` may have made it another's. So the
    /// question steps back to the login role, for itself alone, once it has noted who it is. It must happen before the
    /// function looks, hence in its argument.
    public var first: Query {
        Query(
            """
            SELECT me.role, me.login, pg_backend_pid() AS pid, current_setting('server_version_num')::int AS version,
                current_database() AS database, pg_is_in_recovery() AS recovery, (
                    SELECT \(Statements.micros("s.backend_start")) FROM pg_catalog.pg_stat_get_activity(
                        CASE WHEN me.role IS NOT NULL AND set_config('role', 'none', true) IS NOT NULL
                            THEN pg_backend_pid() END) AS s
                ) AS backend_start,
                EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'sidecar' AND c.relname = 'schema_version') AS has_schema
            FROM (SELECT current_user AS role, session_user AS login OFFSET 0) AS me
            """)
    }

    /// The next step after the answer to the last question. An answer that is none to it, or that cannot be read, is a
    /// failure like the server's own, to be tried again: never a guess, and never the end of the process.
    public mutating func next(after result: QueryResult) -> Step {
        guard hasShape(result) else { return Self.unreadable("an answer to another question") }
        switch state {
        case .identity: return identified(result)
        case .schema(var facts):
            guard let version = result.int64(0, "version"), let compatibleFrom = result.int64(0, "compatible_from")
            else { return Self.unreadable("the schema's version") }
            facts.schemaVersion = Int(version)
            guard compatibleFrom <= Schema.current else {
                return .refuse(.schemaTooNew(version: facts.schemaVersion))
            }
            return upgraded(facts)
        case .migration(var facts):
            facts.schemaVersion = Schema.current
            return steppedBack(facts)
        case .role(var facts):
            if result.string(0, "became") != nil { facts.user = facts.login }
            return configured(facts)
        case .settings(let facts): return .ready(facts)
        }
    }

    /// As `Statements` demands it of all that is asked later: one row of the columns asked for. Scripts are asked for none.
    private func hasShape(_ result: QueryResult) -> Bool {
        let columns: [String] =
            switch state {
            case .identity: ["pid", "backend_start", "version", "database", "role", "login", "recovery", "has_schema"]
            case .schema: ["version", "compatible_from"]
            case .role: ["became"]
            case .migration, .settings: []
            }
        return columns.isEmpty || result.rows.count == 1 && columns.allSatisfy(result.columns.contains)
    }

    /// In the words of all that is asked later.
    private static func unreadable(_ what: String) -> Step {
        .refuse(.failed("cannot read \(what) from the database"))
    }

    /// What an error of the server to the last question means.
    public func explain(_ error: ServerError) -> PreparationError {
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

    private mutating func identified(_ result: QueryResult) -> Step {
        guard let pid = result.int64(0, "pid").flatMap({ Int32(exactly: $0) }),
            let start = result.int64(0, "backend_start"), let version = result.int64(0, "version"),
            let database = result.string(0, "database"), let user = result.string(0, "role"),
            let login = result.string(0, "login"), let recovery = result.bool(0, "recovery"),
            let hasSchema = result.bool(0, "has_schema")
        else { return Self.unreadable("the server's description of itself") }
        let facts = SessionFacts(
            backendPID: pid, backendStart: start, serverVersion: Int(version), database: database, user: user,
            login: login,
            assumed: user == login ? nil : user, schemaVersion: 0)
        guard allowSessionPooler || facts.backendPID == protocolPID else { return .refuse(.pooler) }
        guard facts.serverVersion >= 120_000 else { return .refuse(.serverTooOld(version: facts.serverVersion)) }
        guard !recovery else { return .refuse(.standbyServer) }
        guard hasSchema else { return upgraded(facts) }
        state = .schema(facts)
        return .query(
            Query(
                """
                SELECT coalesce(max(v.version), 0) AS version, coalesce((
                    SELECT l.compatible_from FROM sidecar.schema_version AS l ORDER BY l.version DESC LIMIT 1
                ), 0) AS compatible_from FROM sidecar.schema_version AS v
                """))
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

    /// Works as the login role from here on, where that has the rights itself. PostgreSQL lets only a session's login role see
    /// how old the session is and end it: as another role, a sidecar could end neither its own former session nor its
    /// child's (R4, R6, R8). The schema is made before this, by the role that is meant to own it. A superuser stays what it
    /// was made: triggers of that role's tables would run with a superuser's rights.
    private mutating func steppedBack(_ facts: SessionFacts) -> Step {
        if case .migrate = purpose { return .ready(facts) }
        guard facts.assumed != nil, facts.schemaVersion > 0 else { return configured(facts) }
        state = .role(facts)
        return .query(
            Query(
                """
                SELECT CASE WHEN bool_and(has_table_privilege(session_user, c.oid, r."right"))
                        AND bool_and(pg_has_role(session_user, c.relowner, 'USAGE') OR NOT c.relrowsecurity)
                        AND has_schema_privilege(session_user, 'sidecar', 'USAGE')
                    AND NOT bool_or(me.rolsuper)
                    THEN set_config('role', 'none', false) END AS became
                FROM pg_catalog.pg_class AS c
                    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r ("right")
                    JOIN pg_catalog.pg_roles AS me ON me.rolname = session_user
                WHERE c.relnamespace = 'sidecar'::regnamespace AND c.relname IN ('lease', 'member', 'history')
                """))
    }

    private mutating func configured(_ facts: SessionFacts) -> Step {
        guard case .lead(let callLimit, let idleLimit) = purpose else { return .ready(facts) }
        state = .settings(facts)
        return .query(Self.settings(callLimit: callLimit, idleLimit: idleLimit, serverVersion: facts.serverVersion))
    }

    /// Everything that a role's or a database's defaults could make too long, too short or too weak.
    public static func settings(callLimit: Duration, idleLimit: Duration, serverVersion: Int) -> Query {
        // Below the client's limit: a statement that waits for a lock shall fail there, and not cost the session here.
        let call = max(1, callLimit.milliseconds * 3 / 4)
        let keepAlive = max(1, idleLimit.milliseconds / 3000)
        // Every setting is pinned by a SET of the session's own: a reload of the server's configuration must not change it
        // under a living lease. With a lower synchronous_commit, the crash of one backend could lose a claim that was
        // acknowledged, while the server's start time stays (R3).
        var script = """
            SET search_path = pg_catalog;
            SET default_transaction_isolation = 'read committed';
            SET statement_timeout = \(call);
            SET lock_timeout = \(call);
            SET idle_in_transaction_session_timeout = \(call);
            SET tcp_keepalives_idle = \(keepAlive);
            SET tcp_keepalives_interval = \(keepAlive);
            SET tcp_keepalives_count = 3;
            SET tcp_user_timeout = \(idleLimit.milliseconds);
            SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);

            """
        if serverVersion >= 140_000 { script += "SET idle_session_timeout = \(idleLimit.milliseconds);" }
        return .script(script)
    }
}

/// Why a session cannot be used.
public enum PreparationError: Error, Equatable, Sendable, CustomStringConvertible {
    case pooler
    case serverTooOld(version: Int)
    case standbyServer
    case schemaTooNew(version: Int)
    /// The schema may not be created or upgraded.
    case notAllowed(user: String, database: String)
    /// The schema is there, and closed.
    case tablesNotAllowed(user: String, database: String)
    case migrationUnderWay
    case failed(String)

    /// Trying again will not help: somebody has to change a setting.
    public var isPermanent: Bool {
        switch self {
        case .pooler, .serverTooOld, .schemaTooNew: true
        case .standbyServer, .notAllowed, .tablesNotAllowed, .migrationUnderWay, .failed: false
        }
    }

    public var description: String {
        switch self {
        case .pooler:
            "a connection pooler stands between here and PostgreSQL, and a lease needs a session of its own: connect "
                + "to the server directly, or pass --allow-session-pooler if the pooler is in session mode"
        case .serverTooOld(let version):
            "PostgreSQL \(version / 10000) is too old: 12 or later is needed"
        case .standbyServer:
            "the server is a read-only standby: name the primary, or all hosts, in the database URL"
        case .schemaTooNew(let version):
            "the schema \"sidecar\" has version \(version), made by a newer sidecar that this one cannot work with: "
                + "upgrade this one"
        case .notAllowed(let user, let database):
            "role \"\(user)\" may not create or upgrade the schema \"sidecar\" in database \"\(database)\": run `sidecar "
                + "migrate` as its owner, or grant CREATE on the database"
        case .tablesNotAllowed(let user, _):
            "role \"\(user)\" may not use the schema \"sidecar\": as its owner, GRANT USAGE ON SCHEMA sidecar TO \"\(user)\"; "
                + "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sidecar TO \"\(user)\" (SELECT is enough to look)"
        case .migrationUnderWay: "another sidecar is migrating the schema"
        case .failed(let reason): reason
        }
    }
}
