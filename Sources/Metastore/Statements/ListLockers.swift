// Which transactions may keep a row of the table of leases locked: those that have locked or
// written rows there and do not wait for a lock themselves. PostgreSQL does not say which row.

import Lease
import Postgres
import Text

struct ListLockers: ListStatement {
    enum Column: String, ColumnName {
        case pid, role, application, state
        case open = "open_ms"
    }

    var sql: SQL {
        """
        SELECT DISTINCT k.\(Column.pid), a.usename AS \(Column.role), a.application_name AS \(Column.application),
            a.\(Column.state), \(SQL.milliseconds("clock_timestamp() - a.xact_start")) AS \(Column.open)
        FROM pg_locks AS k LEFT JOIN pg_stat_activity AS a ON a.pid = k.pid
        WHERE k.locktype = 'relation' AND k.relation = 'sidecar.lease'::regclass AND k.granted
            AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND k.mode <> 'AccessShareLock' AND k.pid IS DISTINCT FROM pg_backend_pid()
            AND NOT EXISTS (SELECT FROM pg_locks AS w WHERE w.pid = k.pid AND NOT w.granted)
        """
    }

    func read(_ row: Row<Column>) -> Locker { Locker(row) }
}

/// One transaction; what PostgreSQL does not show to this role is nil.
struct Locker: CustomStringConvertible {
    let pid: Int32?
    let role: String?
    let application: String?
    let state: String?
    let open: Duration?

    init(_ row: Row<ListLockers.Column>) {
        pid = row.pid(.pid)
        role = row.string(.role)
        application = row.string(.application)
        state = row.string(.state)
        open = row.milliseconds(.open)
    }

    var description: String {
        guard let pid else { return "a prepared transaction: find it in pg_prepared_xacts, and ROLLBACK PREPARED it" }
        let facts = [
            role.map { "role \"\(oneLine($0, longest: 80))\"" },
            application.map { "application \"\(oneLine($0, longest: 80))\"" },
            state.map { oneLine($0, longest: 80) }, open.map { "open for \(Durations.text($0))" },
        ]
        return "backend \(pid) (\(facts.compactMap { $0 }.joined(separator: ", "))): end its transaction, "
            + "or SELECT pg_terminate_backend(\(pid))"
    }
}
