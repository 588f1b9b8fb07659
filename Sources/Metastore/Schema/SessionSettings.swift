// The settings that a session of the lease fixes for itself.

import Clock
import Postgres

extension Preparation {
    /// The server's time limit for a statement. It is shorter than the client's: a statement that
    /// waits for a lock must fail at the server, and must not cost the session here.
    static func serverLimit(_ callLimit: Duration) -> Duration {
        .milliseconds(max(1, callLimit.milliseconds * 3 / 4))
    }

    /// Everything that a role's or a database's defaults could make too long, too short or too
    /// weak.
    public static func settings(callLimit: Duration, idleLimit: Duration, serverVersion: Int) -> Query {
        let call = serverLimit(callLimit).milliseconds
        let keepAlive = max(1, idleLimit.milliseconds / 3000)
        // Every setting is fixed by a SET of the session's own: a reload of the server's
        // configuration must not change it under a living lease. With a lower synchronous_commit,
        // the crash of one backend could lose a claim that was acknowledged, while the server's
        // start time stays (R3).
        //
        // The time limit comes first, because the role's own may be too short even for these
        // statements. It is lifted before it is set (Identify). default_transaction_read_only is
        // left alone: a person who makes a server read-only may have made another one the primary,
        // and two could lead.
        var script = """
            SET statement_timeout = 0;
            SET search_path = pg_catalog;
            SET statement_timeout = \(call);
            SET default_transaction_isolation = 'read committed';
            SET lock_timeout = \(call);
            SET idle_in_transaction_session_timeout = \(call);
            SET tcp_keepalives_idle = \(keepAlive);
            SET tcp_keepalives_interval = \(keepAlive);
            SET tcp_keepalives_count = 3;
            SET tcp_user_timeout = \(idleLimit.milliseconds);
            SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
            """
        if serverVersion >= 140_000 { script += "\nSET idle_session_timeout = \(idleLimit.milliseconds);" }
        if serverVersion >= 170_000 { script += "\nSET transaction_timeout = 0;" }
        return .script(script)
    }
}
