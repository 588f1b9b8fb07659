// The first question to a new session: which backend it is, of which server, in which database, and
// as which role.

import Clock
import Postgres

/// Asks a session who and where it is.
///
/// PostgreSQL shows the start of a session only to its login role, and `ALTER ROLE ... SET role`
/// may have given the session another role. So the statement notes its role and then returns to the
/// login role, for itself alone. This must happen before the function looks, so it stands in the
/// function's argument.
struct Identify: OneRowStatement {
    enum Column: String, ColumnName {
        case role, login, pid, version, database, recovery
        case backendStart = "backend_start"
        case hasSchema = "has_schema"
    }

    struct Answer {
        /// All but the schema's version.
        let facts: SessionFacts
        /// Whether the server is a read-only standby.
        let isInRecovery: Bool
        let hasSchema: Bool
    }

    var sql: SQL {
        """
        SELECT me.role AS \(Column.role), me.login AS \(Column.login), pg_backend_pid() AS \(Column.pid),
            current_setting('server_version_num')::int AS \(Column.version),
            current_database() AS \(Column.database), pg_is_in_recovery() AS \(Column.recovery), (
                SELECT \(SQL.microseconds("s.backend_start")) FROM pg_catalog.pg_stat_get_activity(
                    CASE WHEN me.role IS NOT NULL AND set_config('role', 'none', true) IS NOT NULL
                        THEN pg_backend_pid() END) AS s
            ) AS \(Column.backendStart),
            EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = 'sidecar' AND c.relname = 'schema_version') AS \(Column.hasSchema)
        FROM (SELECT current_user AS role, session_user AS login OFFSET 0) AS me
        """
    }

    /// The question under settings of its own, which end with the question. The session may still
    /// turn out to be a pooler's, and then belong to another client next.
    ///
    /// The 0 comes first: unless the old limit is lifted, some servers keep the limit that held
    /// when the script began.
    func alone(limit: Duration) -> Query {
        .script(
            """
            SET LOCAL statement_timeout = 0;
            SET LOCAL search_path = pg_catalog;
            SET LOCAL statement_timeout = \(limit.milliseconds);
            \(sql.text)
            """)
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Answer {
        guard let pid = row.pid(.pid), let start = row.int64(.backendStart), let version = row.int64(.version),
            let database = row.string(.database), let user = row.string(.role), let login = row.string(.login),
            let isInRecovery = row.bool(.recovery), let hasSchema = row.bool(.hasSchema)
        else { throw UnreadableReply(what: "the server's description of itself") }
        let facts = SessionFacts(
            backendPID: pid, backendStart: start, serverVersion: Int(version), database: database, user: user,
            login: login, assumed: user == login ? nil : user, schemaVersion: 0)
        return Answer(facts: facts, isInRecovery: isInRecovery, hasSchema: hasSchema)
    }
}
