// R3: reads the record. The answer has a row even if there is no record. So a missing record and an
// unreadable answer cannot be confused.

import Lease
import Postgres

struct Observe: OneRowStatement {
    enum Column: String, ColumnName {
        case thisServer = "this_server"
        case present, epoch, beat, holder, node
        case ttl = "ttl_ms"
        case renewInterval = "renew_ms"
        case released, suspended, server
        case backendPID = "backend_pid"
        case backendStart = "backend_start"
        case age = "age_ms"
    }

    /// The backend that answers. Another column of the same row, which the reply does not need.
    enum Answering: String, ColumnName { case pid }

    static let severalRows = UnreadableReply.severalRecords

    let lease: String

    var sql: SQL {
        """
        SELECT pg_backend_pid() AS \(Answering.pid),
            \(SQL.microseconds("pg_postmaster_start_time()")) AS \(Column.thisServer),
            l.name IS NOT NULL AS \(Column.present), l.\(Column.epoch), l.\(Column.beat), l.\(Column.holder),
            l.\(Column.node), l.\(Column.ttl), l.\(Column.renewInterval), l.\(Column.released), l.\(Column.suspended),
            \(SQL.microseconds("l.server")) AS \(Column.server), l.\(Column.backendPID),
            \(SQL.microseconds("l.backend_start")) AS \(Column.backendStart),
            \(SQL.milliseconds("clock_timestamp() - l.renewed_at")) AS \(Column.age)
        FROM (SELECT 1) AS one LEFT JOIN sidecar.lease AS l ON l.name = \(lease)
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Reply { .observed(try observation(row)) }

    /// The backend that answered; nil when the answer does not say.
    static func backend(_ result: QueryResult) -> Int32? {
        guard result.rows.count == 1 else { return nil }
        return Row<Answering>(result: result, index: 0).pid(.pid)
    }

    private func observation(_ row: Row<Column>) throws(UnreadableReply) -> Observation {
        let server = ServerID(try need(row.int64(.thisServer), "the server's start time"))
        guard try need(row.bool(.present), "the presence of the record") else {
            return Observation(record: nil, server: server, age: .zero)
        }
        let record = Record(
            epoch: Epoch(try need(row.int64(.epoch), "epoch")),
            beat: try need(row.int64(.beat), "beat"),
            holder: row.string(.holder).map { InstanceID($0) },
            node: row.string(.node),
            ttl: try positive(row, .ttl),
            renewInterval: try positive(row, .renewInterval),
            released: try need(row.bool(.released), "released"),
            suspended: try need(row.bool(.suspended), "suspended"),
            server: ServerID(try need(row.int64(.server), "server")), backend: session(row))
        return Observation(record: record, server: server, age: row.milliseconds(.age) ?? .zero)
    }

    /// The session that the record names; nil when it names none, or only half of one.
    private func session(_ row: Row<Column>) -> BackendID? {
        guard let pid = row.pid(.backendPID), let startedAt = row.int64(.backendStart) else { return nil }
        return BackendID(pid: pid, startedAt: startedAt)
    }

    /// A duration must be positive. Otherwise a live record would look like one that has expired.
    private func positive(_ row: Row<Column>, _ column: Column) throws(UnreadableReply) -> Duration {
        try need(row.milliseconds(column).flatMap { $0 > .zero ? $0 : nil }, column.rawValue)
    }
}
