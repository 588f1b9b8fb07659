// The sidecar and the session that send a statement of the lease: what the statement writes about
// them, and how the protocol's types become parameters.

import Clock
import Lease
import Postgres

/// Who sends the statements.
struct Writer: Sendable {
    var identity: Identity
    let timing: Timing
    let version: String
    /// The database the session is in, for the fence's tag.
    var database = ""
    /// The session itself, for the record.
    var backend: BackendID?

    var lease: String { identity.lease }
    var instance: InstanceID { identity.instance }
    /// The key of the lease's advisory lock.
    var lockKey: Int64 { LeaseKey.lock(lease) }
    /// The tag in the labels of the child's sessions.
    var tag: String { LeaseKey.tag(lease: lease, database: database) }

    /// What every write sets.
    var everyWrite: SQL {
        """
        ttl_ms = \(timing.ttl.milliseconds), renew_ms = \(timing.renewInterval.milliseconds),
        server = pg_postmaster_start_time(), renewed_at = clock_timestamp()
        """
    }

    /// What every write of a holder sets. The start of its own backend was read when the session
    /// was prepared. The role that the session works as now may not be allowed to read it.
    var holderColumns: SQL {
        """
        \(everyWrite), backend_pid = pg_backend_pid(),
        backend_start = timestamptz 'epoch' + \(backend?.startedAt) * interval '1 microsecond'
        """
    }
}

extension InstanceID: SQLValue {
    public static var sqlType: SQL.ValueType { .uuid }
    public var sqlText: String { rawValue }
}

extension Epoch: SQLValue {
    public static var sqlType: SQL.ValueType { .bigint }
    public var sqlText: String { String(rawValue) }
}
