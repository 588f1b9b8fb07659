// One session with PostgreSQL that never makes its owner wait. The owner polls its descriptors, calls `advance` when
// one is ready or the deadline has passed, and gets events back. No call in here blocks, whatever the network, the
// name server or the database do. Anything that takes longer than its limit ends the session.

import Clock
import Glibc

/// One non-blocking libpq session. Owned by one thread; not Sendable.
///
/// Connecting starts with `init`. Afterwards: wait with poll(2) for `pollDescriptors` until `deadline`, call
/// `advance(now:)`, read both again (they change with every call).
public final class Session {
    /// What the session is doing.
    enum State {
        /// Waiting for a host's addresses.
        case resolving(LookUp, ConnectionSettings.Entry, deadline: Instant, ConnectPlan)
        /// Connecting to one candidate; `events` is what libpq waits for.
        case connecting(LibPQConnection, Candidate, events: Int16, deadline: Instant, ConnectPlan)
        case idle(LibPQConnection, Candidate)
        case busy(LibPQConnection, Candidate, Exchange)
        /// Lost or closed.
        case over
    }

    /// A query under way.
    struct Exchange {
        let deadline: Instant
        let limit: Duration
        /// Whether part of the query is still in libpq's buffer.
        var flush: LibPQConnection.Flush
        /// The last statement's result, or the first error; nil until something came back.
        var outcome: Result<QueryResult, ServerError>?
    }

    let settings: ConnectionSettings
    let applicationName: String
    let limits: Limits
    let resolver: Resolver
    var state: State
    /// Events that occurred outside `advance` and wait for its next call.
    var pending: [SessionEvent] = []

    /// Starts to connect.
    ///
    /// - Parameters:
    ///   - applicationName: `application_name`; the server cuts it at 63 bytes.
    ///   - limits: how long the steps may take, counted from `now`.
    public convenience init(
        settings: ConnectionSettings, applicationName: String, limits: Limits = Limits(), now: Instant = BootClock.now()
    ) {
        self.init(
            settings: settings, applicationName: applicationName, limits: limits, now: now, resolver: .shared)
    }

    init(settings: ConnectionSettings, applicationName: String, limits: Limits, now: Instant, resolver: Resolver) {
        self.settings = settings
        self.applicationName = applicationName
        self.limits = limits
        self.resolver = resolver
        state = .over
        tryNext(ConnectPlan(settings, deadline: now + limits.connect), now: now)
    }

    deinit { close() }

    /// What poll(2) must watch. Empty when the session is over.
    public var pollDescriptors: [(fd: Int32, events: Int16)] {
        switch state {
        case .resolving(let lookUp, _, _, _): [(lookUp.descriptor, Int16(POLLIN))]
        case .connecting(let connection, _, let events, _, _): [(connection.socket, events)]
        case .idle(let connection, _): [(connection.socket, Int16(POLLIN))]
        case .busy(let connection, _, let exchange):
            // Reads while it sends: a server may stop reading until its own output is taken.
            [(connection.socket, Int16(exchange.flush == .pending ? POLLIN | POLLOUT : POLLIN))]
        case .over: []
        }
    }

    /// When `advance` must be called even if no descriptor is ready; nil when only descriptors matter. May lie in the
    /// past: then there are events to fetch now.
    public var deadline: Instant? {
        guard pending.isEmpty else { return Instant(nanoseconds: .min) }
        return switch state {
        case .resolving(_, _, let deadline, _), .connecting(_, _, _, let deadline, _): deadline
        case .busy(_, _, let exchange): exchange.deadline
        case .idle, .over: nil
        }
    }

    /// Does what can be done without waiting and returns what happened. Harmless if nothing did.
    public func advance(now: Instant) -> [SessionEvent] {
        switch state {
        case .resolving(let lookUp, let entry, let deadline, let plan):
            advanceLookUp(lookUp, entry, deadline, plan, now: now)
        case .connecting(let connection, let candidate, let events, let deadline, let plan):
            advanceConnect(connection, candidate, events, deadline, plan, now: now)
        case .idle(let connection, let candidate): receive(connection, candidate, nil, now: now)
        case .busy(let connection, let candidate, let exchange): receive(connection, candidate, exchange, now: now)
        case .over: break
        }
        defer { pending = [] }
        return pending
    }

    /// Sends a query. Its answer, or its failure, comes from `advance`.
    ///
    /// - Parameter limit: without a complete answer within it, counted from `now`, the session is lost: an answer that
    ///   comes later must never be taken for another query's.
    public func send(_ query: Query, now: Instant, limit: Duration) {
        guard case .idle(let connection, let candidate) = state else {
            preconditionFailure("a session takes one query at a time, and only while it is connected")
        }
        guard connection.send(query) else { return lose(connection, candidate) }
        let exchange = Exchange(deadline: now + limit, limit: limit, flush: connection.flush(), outcome: nil)
        state = .busy(connection, candidate, exchange)
        // A failed flush is not the end yet. The server's reason may be waiting to be read, and `advance` will see
        // it.
        if exchange.flush == .failed { receive(connection, candidate, exchange, now: now) }
    }

    /// Ends the session without waiting. An idle session says goodbye to the server. Anything under way is cut off,
    /// and the server may still complete it.
    public func close() {
        switch state {
        case .connecting(let connection, _, _, _, _), .busy(let connection, _, _): connection.abandon()
        case .resolving, .idle, .over: break
        }
        state = .over
    }

    /// Whether a query can be sent now.
    public var isIdle: Bool { if case .idle = state { true } else { false } }
    /// Whether the session is lost or closed.
    public var isOver: Bool { if case .over = state { true } else { false } }
    /// The server process; nil unless connected.
    public var backendPID: Int32? { connected?.0.backendPID }
    /// 150018 for PostgreSQL 15.18; nil unless connected.
    public var serverVersion: Int? { connected?.0.serverVersion }
    /// Whether the session is encrypted; nil unless connected.
    public var isTLS: Bool? { connected?.0.isTLS }
    /// Host, port and address of the server, for messages; nil unless connected.
    public var peer: String? { connected?.1.description }

    private var connected: (LibPQConnection, Candidate)? {
        switch state {
        case .idle(let connection, let candidate), .busy(let connection, let candidate, _): (connection, candidate)
        case .resolving, .connecting, .over: nil
        }
    }
}
