// Returns from the role that `ALTER ROLE ... SET role` gave the session to the role that logged in,
// if that role has the rights itself. A superuser keeps the other role: otherwise triggers on that
// role's tables would run with a superuser's rights.

import Postgres

struct BecomeLogin: OneRowStatement {
    enum Column: String, ColumnName { case became }

    var sql: SQL {
        """
        SELECT CASE WHEN bool_and(has_table_privilege(session_user, c.oid, r."right"))
                AND bool_and(pg_has_role(session_user, c.relowner, 'USAGE') OR NOT c.relrowsecurity)
                AND has_schema_privilege(session_user, 'sidecar', 'USAGE')
            AND NOT bool_or(me.rolsuper)
            THEN set_config('role', 'none', false) END AS \(Column.became)
        FROM pg_catalog.pg_class AS c
            CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r ("right")
            JOIN pg_catalog.pg_roles AS me ON me.rolname = session_user
        WHERE c.relnamespace = 'sidecar'::regnamespace AND c.relname IN ('lease', 'member', 'history')
        """
    }

    /// Whether the session now works as the login role.
    func read(_ row: Row<Column>) -> Bool { row.string(.became) != nil }
}
