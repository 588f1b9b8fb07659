// Parts that several statements share. Every condition that decides about the lease is written
// once, here.

import Lease
import Postgres

extension SQL {
    /// The server's clock in milliseconds of the unix epoch.
    static let unixMilliseconds = milliseconds("clock_timestamp()")

    /// A time or an interval in milliseconds.
    static func milliseconds(_ time: SQL) -> SQL { "(extract(epoch FROM \(time)) * 1000)::bigint" }

    /// A time in microseconds of the unix epoch.
    static func microseconds(_ time: SQL) -> SQL { "(extract(epoch FROM \(time)) * 1000000)::bigint" }

    /// A time as people and scripts get to read it.
    static func utc(_ time: SQL) -> SQL {
        """
        to_char(\(time) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        """
    }

    /// Takes the lock if it is free. True as well if it is not free but waived.
    static func tryLock(_ key: Int64, _ demand: LockDemand) -> SQL {
        "CASE WHEN pg_try_advisory_lock(\(key)) THEN true ELSE \(demand == .waived) END"
    }

    /// Whether the record `l` was written by one of these sessions. If the record names no session,
    /// the answer is no.
    static func wasWritten(by sessions: [BackendID]) -> SQL {
        let names = sessions.map { "\($0.pid)/\($0.startedAt)" }
        return "concat(l.backend_pid, '/', \(microseconds("l.backend_start"))) = ANY (\(names))"
    }

    /// Whether pg_terminate_backend is allowed on `a` (owned by `r`). A call without the right is
    /// an error, which would undo the renewal around it.
    static let mayTerminate: SQL = """
        ((SELECT me.rolsuper FROM pg_roles AS me WHERE me.rolname = current_user)
            OR (NOT coalesce(r.rolsuper, true)
                AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))
        """

    /// Whether the lock `k` is the advisory lock of this lease, and is held.
    static func isHeldLock(of lease: String) -> SQL {
        let halves = LeaseKey.halves(lease)
        return """
            k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
                AND k.classid = \(halves.high) AND k.objid = \(halves.low)
                AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            """
    }
}
