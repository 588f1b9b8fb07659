// What people want to know about a lease: who leads since when, who stands by, who holds the lock and whether that agrees
// with the row, and what happened before. Read-only, for the command line.

import Clock
import Lease
import Postgres

/// Read-only questions about one lease.
public struct Overview: Sendable {
    let lease: String

    public init(lease: String) { self.lease = lease }

    /// One row, or none: the record, its ages by the server's clock, and its lock's holder.
    public var record: Query {
        let halves = LeaseKey.halves(lease)
        return Query(
            """
            -- A role without pg_read_all_stats does not see another role's backend_start: then the pid has to do.
            SELECT l.name, l.epoch, l.beat, l.holder, l.node, l.version, l.ttl_ms, l.released, l.suspended,
                l.backend_pid, l.server = pg_postmaster_start_time() AS same_server,
                (extract(epoch FROM clock_timestamp() - l.renewed_at) * 1000)::bigint AS age_ms,
                (extract(epoch FROM clock_timestamp() - l.claimed_at) * 1000)::bigint AS led_ms,
                to_char(l.claimed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS claimed_at,
                k.pid AS lock_pid, a.application_name AS lock_application, a.usename AS lock_user,
                k.pid IS NOT DISTINCT FROM l.backend_pid
                    AND (a.backend_start IS NULL OR a.backend_start IS NOT DISTINCT FROM l.backend_start) AS lock_agrees
            FROM sidecar.lease AS l
                LEFT JOIN pg_locks AS k ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
                    AND k.classid = $2::oid AND k.objid = $3::oid
                    AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                LEFT JOIN pg_stat_activity AS a ON a.pid = k.pid
            WHERE l.name = $1 LIMIT 1
            """, [lease, String(halves.high), String(halves.low)])
    }

    /// One row a live member, the leader first.
    public var members: Query {
        Query(
            """
            SELECT m.instance, m.node, m.version, m.leads, m.healthy, m.ttl_ms, m.backend_pid,
                (extract(epoch FROM clock_timestamp() - m.last_seen) * 1000)::bigint AS age_ms,
                (extract(epoch FROM m.last_seen - m.started_at) * 1000)::bigint AS up_ms
            FROM sidecar.member AS m
            WHERE m.lease = $1 AND m.last_seen > clock_timestamp() - 3 * m.ttl_ms * interval '1 ms'
            ORDER BY m.leads DESC, m.node, m.instance
            """, [lease])
    }

    /// The last leaderships, newest first.
    public func history(limit: Int) -> Query {
        Query(
            """
            SELECT h.epoch, h.node, h.instance, h.version, h.reason,
                to_char(h.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started_at,
                to_char(h.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS ended_at,
                (extract(epoch FROM coalesce(h.ended_at, clock_timestamp()) - h.started_at) * 1000)::bigint AS lasted_ms
            FROM sidecar.history AS h WHERE h.lease = $1 ORDER BY h.id DESC LIMIT $2::int
            """, [lease, String(limit)])
    }

    /// The names of all leases.
    public static let names = Query("SELECT name FROM sidecar.lease ORDER BY name")
}
