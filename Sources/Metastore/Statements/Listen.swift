// Prepares the session that waits for announcements (Notify). It is never the lease's own session:
// PostgreSQL sends a listening session every notification on its channel before it takes the next
// statement, and any role that may connect may send as many as it likes.

import Clock
import Postgres

extension Statements {
    /// The channel on which a changed record is announced.
    public static let channel = "sidecar"

    /// Prepares a session that only listens. Sending it again keeps the server from ending the
    /// session as idle.
    public static func listen(callLimit: Duration, idleLimit: Duration, serverVersion: Int) -> Query {
        let call = Preparation.serverLimit(callLimit).milliseconds
        // The role's own limit is lifted first, because it may be too short for any statement.
        var script = "SET statement_timeout = 0; SET search_path = pg_catalog; SET statement_timeout = \(call);"
        if serverVersion >= 140_000 { script += " SET idle_session_timeout = \(idleLimit.milliseconds);" }
        return .script("\(script) LISTEN \(channel);")
    }
}
