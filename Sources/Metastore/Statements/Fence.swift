// R8: terminates the labelled sessions of this lease that are not (this epoch, this instance). The
// fence takes its epoch from the row that the statement around it has just written and locked, so
// it cannot hit a successor. Part of Claim, Renew, Resume.

import Postgres

/// Sessions of the lease's earlier children that a claim or renewal may not terminate.
public struct Unfenced: Equatable, Sendable {
    public var sessions: Int
    /// The role that may not.
    public var by: String
    /// The ordinary roles they belong to, quoted, with commas between them; empty when there are
    /// none.
    public var roles: String
    /// The superusers among their owners, likewise. Only a superuser may terminate their sessions.
    public var superusers: String
}

enum Fence {
    enum Column: String, ColumnName { case fenced }

    /// The sessions that may not be terminated.
    enum Spared: String, ColumnName {
        case sessions = "unfenced"
        case by = "me"
        case roles = "unfenced_roles"
        case superusers = "unfenced_superusers"
    }

    /// The common table expression `fence`.
    /// - Parameter source: the one that writes the record and returns its new `epoch`.
    static func sql(of source: SQL, _ writer: Writer) -> SQL {
        """
        fence AS MATERIALIZED (
            SELECT count(*) FILTER (WHERE f.may AND pg_terminate_backend(f.pid)) AS \(Column.fenced),
                count(*) FILTER (WHERE NOT f.may) AS \(Spared.sessions), current_user AS \(Spared.by),
                string_agg(DISTINCT f.owner, ', ') FILTER (WHERE NOT f.may AND NOT f.super) AS \(Spared.roles),
                string_agg(DISTINCT f.owner, ', ') FILTER (WHERE NOT f.may AND f.super) AS \(Spared.superusers)
            FROM (
                SELECT a.pid, \(SQL.mayTerminate) AS may, coalesce(r.rolsuper, true) AS super,
                    format('"%s"', coalesce(r.rolname, '?')) AS owner
                FROM \(source) JOIN pg_stat_activity AS a ON a.application_name LIKE 'sidecar:%'
                    LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
                WHERE split_part(a.application_name, ':', 4) = \(writer.tag) AND a.pid <> pg_backend_pid()
                    AND (split_part(a.application_name, ':', 2), split_part(a.application_name, ':', 3))
                        IS DISTINCT FROM (\(source).epoch::text, left(\(writer.instance)::text, 8))
            ) AS f
        )
        """
    }

    /// How many sessions were terminated.
    static func count(_ row: Row<some ColumnName>) -> Int { Int(row.by(Column.self).int64(.fenced) ?? 0) }

    /// The sessions that a claim's or renewal's fence may not terminate; nil if there are none.
    static func unfenced(_ result: QueryResult) -> Unfenced? {
        guard result.rows.count == 1, Spared.names.allSatisfy(result.columns.contains) else { return nil }
        let row = Row<Spared>(result: result, index: 0)
        guard let sessions = row.int64(.sessions), sessions > 0 else { return nil }
        return Unfenced(
            sessions: Int(sessions), by: row.string(.by) ?? "", roles: row.string(.roles) ?? "",
            superusers: row.string(.superusers) ?? "")
    }
}
