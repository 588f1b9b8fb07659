// Turns what the machine asks for into a statement (Statements/): one round trip each, in
// autocommit. What a statement must check, it checks inside the server and in one statement. So a
// statement that arrives late, after the client gave up, finds its condition false.
//
// Names are written in full and the session's search_path is pg_catalog, so that nothing in the
// database can stand in for a function used here.

import Lease
import Postgres

/// The statements of one sidecar.
public struct Statements: Sendable {
    var writer: Writer

    /// The database the session is in, for the fence's tag.
    public var database: String {
        get { writer.database }
        set { writer.database = newValue }
    }

    /// The session itself, for the record.
    public var backend: BackendID? {
        get { writer.backend }
        set { writer.backend = newValue }
    }

    public init(identity: Identity, timing: Timing, version: String) {
        writer = Writer(identity: identity, timing: timing, version: version)
    }

    init(_ writer: Writer) { self.writer = writer }

    /// The query that carries `statement` out.
    public func query(_ statement: Statement) -> Query { typed(statement).query }

    /// The reply to `statement` in `result`.
    public func reply(to statement: Statement, _ result: QueryResult) throws(UnreadableReply) -> Reply {
        try typed(statement).read(result)
    }

    /// The sessions that a claim's or renewal's fence may not terminate; nil if there are none.
    public static func unfenced(_ result: QueryResult) -> Unfenced? { Fence.unfenced(result) }

    /// The backend that answered a poll.
    public static func backend(_ result: QueryResult) -> Int32? { Observe.backend(result) }

    func typed(_ statement: Statement) -> any TypedStatement<Reply> {
        switch statement {
        case .observe: Observe(lease: writer.lease)
        case .create(let ttl, let above): CreateRecord(writer: writer, ttl: ttl, above: above)
        case .claim(let seen, let above, let lock): Claim(writer: writer, seen: seen, above: above, lock: lock)
        case .terminateHolder(let seen, let strangers):
            TerminateHolder(writer: writer, seen: seen, strangers: strangers)
        case .renew(let epoch, let ours): Renew(writer: writer, epoch: epoch, ours: ours)
        case .resume(let epoch, let ours, let lock): Resume(writer: writer, epoch: epoch, ours: ours, lock: lock)
        case .release(let epoch, let beat): Release(writer: writer, epoch: epoch, beat: beat)
        case .unlock: Unlock()
        case .auxiliary(.notify): Notify(lease: writer.lease)
        case .auxiliary(.rehearse): Rehearse(writer)
        case .auxiliary(.register(let leading, let healthy)):
            Register(writer: writer, leading: leading, healthy: healthy)
        case .auxiliary(.leave): Leave(writer: writer)
        case .auxiliary(.historyBegin(let epoch, let ago, let previous)):
            BeginHistory(writer: writer, epoch: epoch, ago: ago, previousRenewedAgo: previous)
        case .auxiliary(.historyEnd(let epoch, let reason, let ago)):
            EndHistory(writer: writer, epoch: epoch, reason: reason, ago: ago)
        }
    }
}
