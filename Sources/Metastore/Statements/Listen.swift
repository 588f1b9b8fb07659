// Prepares the session that waits for announcements (Notify). It is never the lease's own session:
// PostgreSQL sends a listening session every notification on its channel before it takes the next
// statement, and any role that may connect may send as many as it likes.

import Clock
import Postgres

extension Statements {
    /// The channel on which a changed record is announced.
    public static let channel = "sidecar"

    /// Prepares a session that does nothing but listen, and keeps it from being dropped when sent
    /// again.
    public static func listen(callLimit: Duration, idleLimit: Duration, serverVersion: Int) -> Query {
        var script = "SET search_path = pg_catalog; SET statement_timeout = \(max(1, callLimit.milliseconds * 3 / 4));"
        if serverVersion >= 140_000 { script += " SET idle_session_timeout = \(idleLimit.milliseconds);" }
        return .script("\(script) LISTEN \(channel);")
    }
}
