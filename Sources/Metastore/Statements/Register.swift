// Tells the registry that this sidecar is alive, and deletes members that have been silent for an
// hour or for ten of their TTLs, whichever is longer.

import Lease
import Postgres

struct Register: TypedStatement {
    let writer: Writer
    let leading: Bool
    let healthy: Bool

    var sql: SQL {
        """
        WITH forgotten AS (
            DELETE FROM sidecar.member WHERE lease = \(writer.lease) AND instance <> \(writer.instance)
                AND last_seen < clock_timestamp() - greatest(ttl_ms * 10 * interval '1 ms', interval '1 hour')
        )
        INSERT INTO sidecar.member AS m
            (lease, instance, node, version, leads, healthy, ttl_ms, backend_pid, started_at, last_seen)
        VALUES (\(writer.lease), \(writer.instance), \(writer.identity.node), \(writer.version), \(leading), \(healthy),
            \(writer.timing.ttl.milliseconds), pg_backend_pid(), clock_timestamp(), clock_timestamp())
        ON CONFLICT (lease, instance) DO UPDATE SET leads = excluded.leads, healthy = excluded.healthy,
            backend_pid = excluded.backend_pid, last_seen = excluded.last_seen
        """
    }

    func read(_ result: QueryResult) -> Reply { .done }
}
