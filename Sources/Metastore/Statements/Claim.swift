// R4: takes the lock and the record, if it is still the record seen, and fences earlier children
// (R8). The lock comes first, so that of two claims only one gets as far as the record. A lock
// without the record is given back in the same statement.

import Lease
import Postgres

struct Claim: OneRowStatement {
    enum Column: String, ColumnName { case locked, epoch }

    static let demanded = Column.names + Fence.Column.names
    static let severalRows = UnreadableReply.severalRecords

    let writer: Writer
    /// The record that the claim is based on. It wins only if the record has not changed since.
    let seen: Record
    let above: Epoch
    let lock: LockDemand

    var sql: SQL {
        """
        WITH got AS MATERIALIZED (SELECT \(SQL.tryLock(writer.lockKey, lock)) AS locked),
        won AS (
            UPDATE sidecar.lease AS l SET
                epoch = greatest(l.epoch + 1, \(above) + 1, \(SQL.unixMilliseconds)),
                beat = 0, holder = \(writer.instance), node = \(writer.identity.node), version = \(writer.version),
                released = false, \(writer.holderColumns),
                request = NULL, request_epoch = NULL, request_target = NULL, requested_by = NULL,
                requested_at = NULL, claimed_at = clock_timestamp()
            WHERE l.name = \(writer.lease) AND l.epoch = \(seen.epoch) AND l.beat = \(seen.beat)
                AND l.released = \(seen.released) AND NOT l.suspended AND (SELECT locked FROM got)
            RETURNING l.epoch
        ),
        \(Fence.sql(of: "won", writer))
        SELECT got.locked AS \(Column.locked), won.epoch AS \(Column.epoch), fence.*,
            CASE WHEN got.locked AND won.epoch IS NULL THEN pg_advisory_unlock(\(writer.lockKey)) END AS unlocked
        FROM got CROSS JOIN fence LEFT JOIN won ON true
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply {
        guard try need(row.bool(.locked), "the lock's answer to a claim") else { return .claim(.lockBusy) }
        guard row.string(.epoch) != nil else { return .claim(.changed) }
        let epoch = Epoch(try need(row.int64(.epoch), "the claimed epoch"))
        return .claim(.claimed(epoch, fenced: Fence.count(row)))
    }
}
