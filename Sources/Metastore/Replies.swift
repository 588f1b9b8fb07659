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
        switch statement {
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
        guard let sessions = result.int64(0, "unfenced"), sessions > 0 else { return nil }
        return Unfenced(
            sessions: Int(sessions), by: result.string(0, "me") ?? "", roles: result.string(0, "unfenced_roles") ?? "",
            superusers: result.string(0, "unfenced_superusers") ?? "")
    }

    /// The backend that answered a poll.
    public static func backend(_ result: QueryResult) -> Int32? {
        result.int64(0, "pid").flatMap { Int32(exactly: $0) }
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
            ttl: .milliseconds(try need(result.int64(0, "ttl_ms"), "ttl_ms")),
            renewInterval: .milliseconds(try need(result.int64(0, "renew_ms"), "renew_ms")),
            released: try need(result.bool(0, "released"), "released"),
            suspended: try need(result.bool(0, "suspended"), "suspended"),
            server: ServerID(try need(result.int64(0, "server"), "server")))
        return Observation(record: record, server: server, age: .milliseconds(result.int64(0, "age_ms") ?? 0))
    }

    private static func claimReply(_ result: QueryResult) throws(UnreadableReply) -> ClaimReply {
        guard try need(result.bool(0, "locked"), "the lock's answer to a claim") else { return .lockBusy }
        guard let epoch = result.int64(0, "epoch") else { return .changed }
        return .claimed(Epoch(epoch), fenced: Int(result.int64(0, "fenced") ?? 0))
    }

    private static func renewalReply(_ result: QueryResult) throws(UnreadableReply) -> RenewalReply {
        if let beat = result.int64(0, "beat") {
            return .renewed(beat: beat, fenced: Int(result.int64(0, "fenced") ?? 0))
        }
        guard try need(result.bool(0, "ours"), "the answer to a renewal") else { return .notOurs }
        return try need(result.bool(0, "locked"), "the lock's answer to a renewal") ? .notOurs : .lockBusy
    }

    static func need<Value>(_ value: Value?, _ what: String) throws(UnreadableReply) -> Value {
        guard let value else { throw UnreadableReply(what: what) }
        return value
    }
}
