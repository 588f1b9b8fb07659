// The statements that serve people: the registry of members, the history of leaderships, the wake-up call.

import Clock
import Lease
import Postgres

extension Statements {
    /// The channel on which a changed record is announced; the payload is the lease's name.
    public static let channel = "sidecar"

    /// Prepares a session that does nothing but listen, and keeps it from being dropped when sent again.
    ///
    /// Never the lease's own session: PostgreSQL sends a listening session every notification on its channel before it takes
    /// the next statement, and any role that may connect may send as many as it likes.
    public static func listen(callLimit: Duration, idleLimit: Duration, serverVersion: Int) -> Query {
        var script = "SET search_path = pg_catalog; SET statement_timeout = \(max(1, callLimit.milliseconds * 3 / 4));"
        if serverVersion >= 140_000 { script += " SET idle_session_timeout = \(idleLimit.milliseconds);" }
        return .script("\(script) LISTEN \(channel);")
    }

    func auxiliary(_ chore: Auxiliary) -> Query {
        switch chore {
        case .notify: Query("SELECT pg_notify($1, $2)", [Self.channel, identity.lease])
        case .rehearse: rehearsal
        case .register(let leading, let healthy): register(leading: leading, healthy: healthy)
        case .leave:
            Query(
                "DELETE FROM sidecar.member WHERE lease = $1 AND instance = $2::uuid",
                [identity.lease, identity.instance.rawValue])
        case .historyBegin(let epoch, let ago): historyBegin(epoch, previousRenewedAgo: ago)
        case .historyEnd(let epoch, let reason):
            Query(
                """
                UPDATE sidecar.history SET ended_at = clock_timestamp(), reason = $4
                WHERE lease = $1 AND epoch = $2::bigint AND instance = $3::uuid AND ended_at IS NULL
                """, [identity.lease, String(epoch.rawValue), identity.instance.rawValue, reason.text])
        }
    }

    /// Says that we live, and forgets members that have been silent for an hour or ten of their TTLs.
    private func register(leading: Bool, healthy: Bool) -> Query {
        Query(
            """
            WITH forgotten AS (
                DELETE FROM sidecar.member WHERE lease = $1 AND instance <> $2::uuid
                    AND last_seen < clock_timestamp() - greatest(ttl_ms * 10 * interval '1 ms', interval '1 hour')
            )
            INSERT INTO sidecar.member AS m
                (lease, instance, node, version, leads, healthy, ttl_ms, backend_pid, started_at, last_seen)
            VALUES ($1, $2::uuid, $3, $4, $5::boolean, $6::boolean, $7::bigint, pg_backend_pid(), clock_timestamp(),
                clock_timestamp())
            ON CONFLICT (lease, instance) DO UPDATE SET leads = excluded.leads, healthy = excluded.healthy,
                backend_pid = excluded.backend_pid, last_seen = excluded.last_seen
            """,
            [
                identity.lease, identity.instance.rawValue, identity.node, version, leading ? "t" : "f",
                healthy ? "t" : "f", ttl,
            ])
    }

    /// Opens the new leadership, closes those whose leader could not, and keeps the last thousand.
    private func historyBegin(_ epoch: Epoch, previousRenewedAgo ago: Duration) -> Query {
        Query(
            """
            WITH closed AS (
                UPDATE sidecar.history SET reason = 'expired: no renewal for its TTL',
                    ended_at = greatest(started_at, clock_timestamp() - $6::bigint * interval '1 ms')
                WHERE lease = $1 AND epoch < $2::bigint AND ended_at IS NULL
            ),
            trimmed AS (
                DELETE FROM sidecar.history WHERE lease = $1 AND id <= (
                    SELECT h.id FROM sidecar.history AS h WHERE h.lease = $1 ORDER BY h.id DESC OFFSET 1000 LIMIT 1)
            )
            INSERT INTO sidecar.history (lease, epoch, instance, node, version, started_at)
            VALUES ($1, $2::bigint, $3::uuid, $4, $5, clock_timestamp())
            """,
            [
                identity.lease, String(epoch.rawValue), identity.instance.rawValue, identity.node, version,
                String(ago.milliseconds),
            ])
    }
}
