// R5: one more beat in the session that holds the lock, and a fence of earlier children (R8). The
// record must name a session of ours. The instance alone is not enough, because a copy of this
// process has the same one.

import Lease
import Postgres

struct Renew: OneRowStatement {
    enum Column: String, ColumnName { case beat, locked, ours }

    static let demanded = Column.names + Fence.Column.names
    static let severalRows = UnreadableReply.severalRecords

    let writer: Writer
    let epoch: Epoch
    /// The sessions that this process has used.
    let ours: [BackendID]

    var sql: SQL {
        """
        WITH won AS (
            UPDATE sidecar.lease AS l SET beat = l.beat + 1, \(writer.holderColumns)
            WHERE l.name = \(writer.lease) AND l.epoch = \(epoch) AND l.holder = \(writer.instance) AND NOT l.released
                AND \(SQL.wasWritten(by: ours))
            RETURNING l.epoch, l.beat
        ),
        \(Fence.sql(of: "won", writer))
        SELECT won.beat AS \(Column.beat), fence.*, true AS \(Column.locked), won.beat IS NOT NULL AS \(Column.ours)
        FROM fence LEFT JOIN won ON true
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply { .renewal(try Self.renewal(row)) }

    static func renewal(_ row: Row<Column>) throws(UnreadableReply) -> RenewalReply {
        if row.string(.beat) != nil {
            return .renewed(beat: try need(row.int64(.beat), "the renewed beat"), fenced: Fence.count(row))
        }
        guard try need(row.bool(.ours), "the answer to a renewal") else { return .notOurs }
        return try need(row.bool(.locked), "the lock's answer to a renewal") ? .notOurs : .lockBusy
    }
}
