// The statements of R3-R10 in SQL, one round trip each, in autocommit. What a statement must check, it checks inside the
// server and in one statement: a late one that arrives after the client gave up must find its condition false.
//
// Names are written in full and the session's search_path is pg_catalog, so that nothing in the database can stand in
// for a function used here.

import Clock
import Lease
import Postgres

/// Builds the queries of one sidecar.
public struct Statements: Sendable {
    var identity: Identity
    let timing: Timing
    let version: String
    /// The database the session is in, for the fence's tag.
    public var database = ""
    /// The session itself, for the record.
    public var backend: BackendID?

    public init(identity: Identity, timing: Timing, version: String) {
        self.identity = identity
        self.timing = timing
        self.version = version
    }

    /// The query that carries `statement` out.
    public func query(_ statement: Statement) -> Query {
        switch statement {
        case .observe: observe
        case .create(let ttl, let above): create(ttl: ttl, above: above)
        case .claim(let seen, let above, let lock): claim(seen: seen, above: above, lock)
        case .terminateHolder(let seen, let strangers): terminateHolder(seen: seen, strangers)
        case .renew(let epoch, let ours): renew(epoch, ours)
        case .resume(let epoch, let ours, let lock): resume(epoch, ours, lock)
        case .release(let epoch, let beat): release(epoch, beat: beat)
        case .unlock: Query("SELECT pg_advisory_unlock_all()")
        case .auxiliary(let chore): auxiliary(chore)
        }
    }

    private var observe: Query {
        Query(
            """
            SELECT pg_backend_pid() AS pid, \(Self.micros("pg_postmaster_start_time()")) AS this_server,
                l.name IS NOT NULL AS present, l.epoch, l.beat, l.holder, l.node, l.ttl_ms, l.renew_ms, l.released,
                l.suspended, \(Self.micros("l.server")) AS server, l.backend_pid,
                \(Self.micros("l.backend_start")) AS backend_start,
                (extract(epoch FROM clock_timestamp() - l.renewed_at) * 1000)::bigint AS age_ms
            FROM (SELECT 1) AS one LEFT JOIN sidecar.lease AS l ON l.name = $1
            """, [identity.lease])
    }

    /// R10. Nobody's history may be repeated: the epoch starts above every one ever known.
    private func create(ttl: Duration, above: Epoch) -> Query {
        Query(
            """
            INSERT INTO sidecar.lease (name, epoch, beat, ttl_ms, renew_ms, released, server, renewed_at)
            SELECT $1, greatest($2::bigint + 1, \(Self.unixMilliseconds),
                    (SELECT max(h.epoch) + 1 FROM sidecar.history AS h WHERE h.lease = $1 AND h.epoch <= 100000000000000)),
                0, $3::bigint, $4::bigint, false, pg_postmaster_start_time(), clock_timestamp()
            ON CONFLICT DO NOTHING
            """,
            [
                identity.lease, String(above.rawValue), String(ttl.milliseconds),
                String(timing.renewInterval.milliseconds),
            ])
    }

    /// R4. The lock first, so that of two claims only one gets as far as the record. A lock without the record is
    /// given back in the same breath.
    private func claim(seen: Record, above: Epoch, _ lock: LockDemand) -> Query {
        Query(
            """
            WITH got AS MATERIALIZED (SELECT \(Self.tryLock(1, orWaived: 13)) AS locked),
            won AS (
                UPDATE sidecar.lease AS l SET
                    epoch = greatest(l.epoch + 1, $9::bigint + 1, \(Self.unixMilliseconds)),
                    beat = 0, holder = $3::uuid, node = $4, version = $5, released = false,
                    \(Self.writerColumns(ttl: 6, renew: 7, start: 14)),
                    request = NULL, request_epoch = NULL, request_target = NULL, requested_by = NULL,
                    requested_at = NULL, claimed_at = clock_timestamp()
                WHERE l.name = $2 AND l.epoch = $10::bigint AND l.beat = $11::bigint AND l.released = $12::boolean
                    AND NOT l.suspended AND (SELECT locked FROM got)
                RETURNING l.epoch
            ),
            \(Self.fence(of: "won", instance: 3, tag: 8))
            SELECT got.locked, won.epoch, fence.*,
                CASE WHEN got.locked AND won.epoch IS NULL THEN pg_advisory_unlock($1::bigint) END AS unlocked
            FROM got CROSS JOIN fence LEFT JOIN won ON true
            """,
            [
                lockKey, identity.lease, identity.instance.rawValue, identity.node, version, ttl, renewInterval, tag,
                String(above.rawValue), String(seen.epoch.rawValue), String(seen.beat), seen.released ? "t" : "f",
                lock.isWaived, backendStart,
            ])
    }

    /// R4. Rechecks the record and who is in it; a stranger must have been idle for long, or in the way for longer.
    private func terminateHolder(seen: Record, _ strangers: StrangerDemand) -> Query {
        let halves = LeaseKey.halves(identity.lease)
        let idle: Duration? = if case .idleFor(let duration) = strangers { duration } else { nil }
        return Query(
            """
            WITH seen AS MATERIALIZED (
                SELECT l.backend_pid, l.backend_start, l.server FROM sidecar.lease AS l
                WHERE l.name = $1 AND l.epoch = $2::bigint AND l.beat = $3::bigint
            )
            SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) AS terminated
            FROM seen, pg_locks AS k JOIN pg_stat_activity AS a ON a.pid = k.pid
                LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
            WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
                AND k.classid = $4::oid AND k.objid = $5::oid
                AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                AND a.pid <> pg_backend_pid() AND \(Self.mayTerminate)
                AND ((a.pid = seen.backend_pid AND a.backend_start = seen.backend_start
                        AND seen.server = pg_postmaster_start_time())
                    OR $6::bigint IS NULL
                    OR (a.state LIKE 'idle%' AND a.state_change < clock_timestamp() - $6::bigint * interval '1 ms'))
            """,
            [
                identity.lease, String(seen.epoch.rawValue), String(seen.beat), String(halves.high),
                String(halves.low), idle.map { String($0.milliseconds) },
            ])
    }

    /// R5. Not by name alone: a copy of this process has the same one.
    private func renew(_ epoch: Epoch, _ ours: [BackendID]) -> Query {
        Query(
            """
            WITH won AS (
                UPDATE sidecar.lease AS l SET beat = l.beat + 1, \(Self.writerColumns(ttl: 4, renew: 5, start: 7))
                WHERE l.name = $1 AND l.epoch = $2::bigint AND l.holder = $3::uuid AND NOT l.released
                    AND \(Self.isOneOf(8))
                RETURNING l.epoch, l.beat
            ),
            \(Self.fence(of: "won", instance: 3, tag: 6))
            SELECT won.beat, fence.*, true AS locked, won.beat IS NOT NULL AS ours
            FROM fence LEFT JOIN won ON true
            """,
            [
                identity.lease, String(epoch.rawValue), identity.instance.rawValue, ttl, renewInterval, tag,
                backendStart,
                Self.list(ours),
            ])
    }

    /// R6, R9. Our own former backend may still hold the lock, half-open: it goes first. A pid alone does not name it.
    private func resume(_ epoch: Epoch, _ ours: [BackendID], _ lock: LockDemand) -> Query {
        Query(
            """
            WITH mine AS MATERIALIZED (
                SELECT l.backend_pid, l.backend_start, l.server FROM sidecar.lease AS l
                WHERE l.name = $1 AND l.epoch = $2::bigint AND l.holder = $3::uuid AND NOT l.released
                    AND \(Self.isOneOf(9))
            ),
            former AS MATERIALIZED (
                SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) AS gone
                FROM mine JOIN pg_stat_activity AS a
                    ON a.pid = mine.backend_pid AND a.backend_start = mine.backend_start
                    LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
                WHERE mine.server = pg_postmaster_start_time() AND a.pid <> pg_backend_pid() AND \(Self.mayTerminate)
            ),
            got AS MATERIALIZED (
                SELECT former.gone, \(Self.tryLock(7, orWaived: 10)) AS locked
                FROM former CROSS JOIN mine
            ),
            won AS (
                UPDATE sidecar.lease AS l SET beat = l.beat + 1, \(Self.writerColumns(ttl: 4, renew: 5, start: 8))
                WHERE l.name = $1 AND l.epoch = $2::bigint AND l.holder = $3::uuid AND NOT l.released
                    AND \(Self.isOneOf(9)) AND (SELECT locked FROM got)
                RETURNING l.epoch, l.beat
            ),
            \(Self.fence(of: "won", instance: 3, tag: 6))
            SELECT won.beat, fence.*, coalesce(got.locked, false) AS locked,
                (SELECT count(*) FROM mine) > 0 AS ours,
                CASE WHEN got.locked AND won.beat IS NULL THEN pg_advisory_unlock($7::bigint) END AS unlocked
            FROM fence LEFT JOIN got ON true LEFT JOIN won ON true
            """,
            [
                identity.lease, String(epoch.rawValue), identity.instance.rawValue, ttl, renewInterval, tag, lockKey,
                backendStart, Self.list(ours), lock.isWaived,
            ])
    }

    /// R7. Compares everything: a release that arrives late must not hit a record that was taken up again.
    private func release(_ epoch: Epoch, beat: Int64) -> Query {
        Query(
            """
            WITH done AS (
                UPDATE sidecar.lease AS l SET beat = l.beat + 1, released = true, holder = NULL,
                    \(Self.everyWrite(ttl: 5, renew: 6)), backend_pid = NULL, backend_start = NULL
                WHERE l.name = $1 AND l.epoch = $2::bigint AND l.holder = $3::uuid AND l.beat = $4::bigint
                    AND l.server = pg_postmaster_start_time() AND NOT l.released
                    AND l.backend_pid = pg_backend_pid()
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM done) > 0 AS released, pg_advisory_unlock_all()
            """,
            [
                identity.lease, String(epoch.rawValue), identity.instance.rawValue, String(beat), ttl, renewInterval,
            ])
    }

    var lockKey: String { String(LeaseKey.lock(identity.lease)) }
    var tag: String { LeaseKey.tag(lease: identity.lease, database: database) }
    var ttl: String { String(timing.ttl.milliseconds) }
    var backendStart: String? { backend.map { String($0.startedAt) } }
    var renewInterval: String { String(timing.renewInterval.milliseconds) }
}

extension LockDemand {
    fileprivate var isWaived: String { self == .waived ? "t" : "f" }
}

// MARK: - Parts

extension Statements {
    static let unixMilliseconds = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

    static func micros(_ time: String) -> String { "(extract(epoch FROM \(time)) * 1000000)::bigint" }

    /// What every write sets (design: "Record").
    static func everyWrite(ttl: Int, renew: Int) -> String {
        """
        ttl_ms = $\(ttl)::bigint, renew_ms = $\(renew)::bigint, server = pg_postmaster_start_time(),
        renewed_at = clock_timestamp()
        """
    }

    /// What every write of a holder sets. The start of its own backend was learned when the session was prepared: a role
    /// that was set since may not see it.
    static func writerColumns(ttl: Int, renew: Int, start: Int) -> String {
        """
        \(everyWrite(ttl: ttl, renew: renew)), backend_pid = pg_backend_pid(),
        backend_start = timestamptz 'epoch' + $\(start)::bigint * interval '1 microsecond'
        """
    }

    /// Takes the lock where it can be had, waived or not.
    static func tryLock(_ key: Int, orWaived waived: Int) -> String {
        "CASE WHEN pg_try_advisory_lock($\(key)::bigint) THEN true ELSE $\(waived)::boolean END"
    }

    /// Whether the session that wrote the record `l` is one of those listed in that parameter. Of a record that names no
    /// session the answer is no.
    static func isOneOf(_ parameter: Int) -> String {
        "concat(l.backend_pid, '/', \(micros("l.backend_start"))) = ANY ($\(parameter)::text[])"
    }

    /// Sessions as an array's text, to compare with.
    static func list(_ backends: [BackendID]) -> String {
        "{" + backends.map { "\($0.pid)/\($0.startedAt)" }.joined(separator: ",") + "}"
    }

    /// Whether pg_terminate_backend would be allowed on `a` (owned by `r`): asking without the right is an error,
    /// which would undo the renewal around it.
    static let mayTerminate = """
        ((SELECT me.rolsuper FROM pg_roles AS me WHERE me.rolname = current_user)
            OR (NOT coalesce(r.rolsuper, true)
                AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))
        """

    /// R8: terminates the labelled sessions of this lease that are not (this epoch, this instance). It takes its epoch
    /// from the row that `source` has just written and locked, so it cannot hit a successor.
    static func fence(of source: String, instance: Int, tag: Int) -> String {
        """
        fence AS MATERIALIZED (
            SELECT count(*) FILTER (WHERE f.may AND pg_terminate_backend(f.pid)) AS fenced,
                count(*) FILTER (WHERE NOT f.may) AS unfenced, current_user AS me,
                string_agg(DISTINCT f.owner, ', ') FILTER (WHERE NOT f.may AND NOT f.super) AS unfenced_roles,
                string_agg(DISTINCT f.owner, ', ') FILTER (WHERE NOT f.may AND f.super) AS unfenced_superusers
            FROM (
                SELECT a.pid, \(mayTerminate) AS may, coalesce(r.rolsuper, true) AS super,
                    format('"%s"', coalesce(r.rolname, '?')) AS owner
                FROM \(source) JOIN pg_stat_activity AS a ON a.application_name LIKE 'sidecar:%'
                    LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
                WHERE split_part(a.application_name, ':', 4) = $\(tag) AND a.pid <> pg_backend_pid()
                    AND (split_part(a.application_name, ':', 2), split_part(a.application_name, ':', 3))
                        IS DISTINCT FROM (\(source).epoch::text, left($\(instance)::text, 8))
            ) AS f
        )
        """
    }
}
