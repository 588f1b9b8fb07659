// Reads the rows that the statements return into the protocol's own words. A row that cannot be read is an error, never
// a guess: an unreadable record must not look like a missing or a released one.

import Clock
import Lease
import Postgres

/// A reply that does not have the expected shape.
public struct UnreadableReply: Error, Equatable, Sendable {
    /// What was being read.
    public let what: String
}

/// Sessions of the lease's earlier children that a claim or renewal may not terminate (R8).
public struct Unfenced: Equatable, Sendable {
    public var sessions: Int
    /// The role that may not.
    public var by: String
    /// The ordinary roles they belong to, quoted, with commas between them; empty when there are none.
    public var roles: String
    /// The superusers among their owners, likewise: no right but a superuser's own reaches their sessions.
    public var superusers: String
}

extension Statements {
    /// The reply to `statement` in `result`.
    public func reply(to statement: Statement, _ result: QueryResult) throws(UnreadableReply) -> Reply {
        try Self.demandShape(of: result, for: statement)
        return switch statement {
        case .observe: .observed(try Self.observation(result))
        case .create: .created
        case .claim: .claim(try Self.claimReply(result))
        case .renew, .resume: .renewal(try Self.renewalReply(result))
        case .release: .released(try Self.need(result.bool(0, "released"), "the answer to a release"))
        case .terminateHolder:
            .terminated(Int(try Self.need(result.int64(0, "terminated"), "the answer to a termination")))
        case .unlock, .auxiliary: .done
        }
    }

    /// What a claim's or renewal's fence had to leave alone; nil when that was nothing.
    public static func unfenced(_ result: QueryResult) -> Unfenced? {
        let columns = ["unfenced", "me", "unfenced_roles", "unfenced_superusers"]
        guard result.rows.count == 1, columns.allSatisfy(result.columns.contains),
            let sessions = result.int64(0, "unfenced"), sessions > 0
        else { return nil }
        return Unfenced(
            sessions: Int(sessions), by: result.string(0, "me") ?? "", roles: result.string(0, "unfenced_roles") ?? "",
            superusers: result.string(0, "unfenced_superusers") ?? "")
    }

    /// Every question is answered by one row of the columns it asked for. A proxy that mixes answers up may bring another's.
    private static func demandShape(of result: QueryResult, for statement: Statement) throws(UnreadableReply) {
        let columns: [String] =
            switch statement {
            case .observe:
                [
                    "this_server", "present", "epoch", "beat", "holder", "node", "ttl_ms", "renew_ms", "released",
                    "suspended", "server", "backend_pid", "backend_start", "age_ms",
                ]
            case .claim: ["locked", "epoch", "fenced"]
            case .renew, .resume: ["beat", "fenced", "ours", "locked"]
            case .release: ["released"]
            case .terminateHolder: ["terminated"]
            case .create, .unlock, .auxiliary: []
            }
        guard columns.isEmpty || result.rows.count == 1 && columns.allSatisfy(result.columns.contains) else {
            throw UnreadableReply(what: "an answer to another question")
        }
    }

    /// The backend that answered a poll.
    public static func backend(_ result: QueryResult) -> Int32? {
        guard result.rows.count == 1, result.columns.contains("pid") else { return nil }
        return result.int64(0, "pid").flatMap { Int32(exactly: $0) }
    }

    static func observation(_ result: QueryResult) throws(UnreadableReply) -> Observation {
        let server = ServerID(try need(result.int64(0, "this_server"), "the server's start time"))
        guard try need(result.bool(0, "present"), "the presence of the record") else {
            return Observation(record: nil, server: server, age: .zero)
        }
        let record = Record(
            epoch: Epoch(try need(result.int64(0, "epoch"), "epoch")),
            beat: try need(result.int64(0, "beat"), "beat"),
            holder: result.string(0, "holder").map { InstanceID($0) },
            node: result.string(0, "node"),
            ttl: .milliseconds(try positive(result, "ttl_ms")),
            renewInterval: .milliseconds(try positive(result, "renew_ms")),
            released: try need(result.bool(0, "released"), "released"),
            suspended: try need(result.bool(0, "suspended"), "suspended"),
            server: ServerID(try need(result.int64(0, "server"), "server")), backend: backendID(result))
        return Observation(record: record, server: server, age: .milliseconds(result.int64(0, "age_ms") ?? 0))
    }

    /// The session that the record names; nil where it names none, or only half of one.
    private static func backendID(_ result: QueryResult) -> BackendID? {
        guard let pid = result.int64(0, "backend_pid").flatMap({ Int32(exactly: $0) }),
            let startedAt = result.int64(0, "backend_start")
        else { return nil }
        return BackendID(pid: pid, startedAt: startedAt)
    }

    private static func claimReply(_ result: QueryResult) throws(UnreadableReply) -> ClaimReply {
        guard try need(result.bool(0, "locked"), "the lock's answer to a claim") else { return .lockBusy }
        guard result.string(0, "epoch") != nil else { return .changed }
        return .claimed(
            Epoch(try need(result.int64(0, "epoch"), "the claimed epoch")), fenced: Int(result.int64(0, "fenced") ?? 0))
    }

    private static func renewalReply(_ result: QueryResult) throws(UnreadableReply) -> RenewalReply {
        if result.string(0, "beat") != nil {
            return .renewed(
                beat: try need(result.int64(0, "beat"), "the renewed beat"), fenced: Int(result.int64(0, "fenced") ?? 0)
            )
        }
        guard try need(result.bool(0, "ours"), "the answer to a renewal") else { return .notOurs }
        return try need(result.bool(0, "locked"), "the lock's answer to a renewal") ? .notOurs : .lockBusy
    }

    /// A duration that has run out before it began would make a live record look like one that is free.
    private static func positive(_ result: QueryResult, _ column: String) throws(UnreadableReply) -> Int64 {
        try need(result.int64(0, column).flatMap { $0 > 0 ? $0 : nil }, column)
    }

    static func need<Value>(_ value: Value?, _ what: String) throws(UnreadableReply) -> Value {
        guard let value else { throw UnreadableReply(what: what) }
        return value
    }
}
