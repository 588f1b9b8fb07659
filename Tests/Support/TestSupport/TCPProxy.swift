// A TCP proxy that a test puts between a client and its server, to break the network between them: black holes in one or
// both directions, refused connections, resets, delay. Real sockets, one thread, switched while it runs.
//
// A black hole keeps what it swallowed: when it is lifted, the bytes (and the end of a connection) arrive late, as
// they do when a network comes back and TCP retransmits. Late requests are the nastier case for a lease.

import CLinux
import Glibc
import Synchronization

/// Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, as the mode allows.
public final class TCPProxy: Sendable {
    /// What the network does at the moment.
    public enum Mode: Sendable, Equatable {
        /// Everything passes.
        case pass
        /// Nothing passes, in either direction; new connections are accepted and hear nothing.
        case blackHole
        /// What the client sends vanishes; what the server sends arrives.
        case blackHoleToServer
        /// What the server sends vanishes; what the client sends arrives, and is carried out.
        case blackHoleToClient
        /// Existing connections live; new ones are reset.
        case refuse
        /// Everything passes, that much later.
        case delay(Duration)

        fileprivate var passesToServer: Bool { self != .blackHole && self != .blackHoleToServer }
        fileprivate var passesToClient: Bool { self != .blackHole && self != .blackHoleToClient }
        fileprivate var connects: Bool { passesToServer && passesToClient && self != .refuse }
        fileprivate var delay: Duration {
            if case .delay(let duration) = self { return duration }
            return .zero
        }
    }

    /// The port to connect to, on 127.0.0.1.
    public let port: UInt16
    private let target: UInt16
    private let shared: Mutex<Shared>
    private let wake: Int32

    fileprivate struct Shared {
        var mode: Mode = .pass
        var reset = false
        var closed = false
        var open = 0
        /// Orders given, and how many of them the thread has read: from then on it acts by them.
        var given = 0
        var taken = 0
    }

    /// Listens on a free port. The server need not be there yet.
    public init(target: UInt16) throws {
        let listener = try TCPSocket.listen()
        port = try TCPSocket.port(of: listener)
        self.target = target
        wake = clinux_eventfd()
        shared = Mutex(Shared())
        guard wake >= 0 else { throw TCPSocket.Failure(what: "eventfd") }
        let loop = ProxyLoop(listener: listener, wake: wake, target: target)
        startThread("proxy") { [self] in
            loop.run(
                orders: { [self] in
                    shared.withLock { state in
                        defer { state.reset = false }
                        state.taken = state.given
                        return (mode: state.mode, reset: state.reset, closed: state.closed)
                    }
                },
                report: { [self] open in shared.withLock { $0.open = open } })
        }
    }

    /// Switches, also for the connections that are open. In force when this returns.
    public func set(_ mode: Mode) { order { $0.mode = mode } }

    /// Resets every open connection, on both sides.
    public func resetAll() { order { $0.reset = true } }

    /// How many client connections are open, held ones included.
    public var openConnections: Int { shared.withLock { $0.open } }

    /// Ends the proxy and resets its connections. Must be called: the thread holds the proxy.
    public func close() { order { $0.closed = true } }

    private func order(_ change: (inout Shared) -> Void) {
        let order: Int? = shared.withLock { state in
            guard !state.closed else { return nil }
            change(&state)
            state.given += 1
            return state.given
        }
        guard let mine = order else { return }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
        while shared.withLock({ $0.taken < mine }) { usleep(100) }
    }
}

/// The proxy's thread: owns every descriptor, asks for its orders on each turn.
private struct ProxyLoop: Sendable {
    let listener: Int32
    let wake: Int32
    let target: UInt16

    func run(orders: () -> (mode: TCPProxy.Mode, reset: Bool, closed: Bool), report: (Int) -> Void) {
        var connections: [ProxiedConnection] = []
        while true {
            let (mode, reset, closed) = orders()
            // Only now, under orders not older than the connection: else one made after `refuse` would slip in.
            while let client = TCPSocket.accept(listener) { connections.append(ProxiedConnection(client)) }
            if reset || closed {
                for connection in connections { connection.reset() }
                connections = []
            }
            if closed { break }
            for index in connections.indices { connections[index].move(mode, target: target) }
            for connection in connections where connection.finished { connection.close() }
            connections.removeAll { $0.finished }
            report(connections.count)

            var polled = [
                pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            ]
            for connection in connections { polled += connection.interests(mode) }
            // Delayed bytes have no descriptor that becomes ready: look every 5 ms while there are any.
            poll(&polled, nfds_t(polled.count), connections.contains { $0.waits } ? 5 : -1)
            var ignored: UInt64 = 0
            if polled[1].revents != 0 { _ = read(wake, &ignored, 8) }
        }
        Glibc.close(listener)
        Glibc.close(wake)
    }
}

/// One client and, once the mode lets it through, its server.
private struct ProxiedConnection {
    private let client: Int32
    private var server: Int32?
    private var toServer = OneWay()
    private var toClient = OneWay()

    init(_ client: Int32) { self.client = client }

    /// Either side broke, or both said all they had to say.
    var finished: Bool { toServer.broken || toClient.broken || (toServer.ended && toClient.ended) }
    var waits: Bool { toServer.waits || toClient.waits }

    /// Carries over what may pass now.
    mutating func move(_ mode: TCPProxy.Mode, target: UInt16) {
        if server == nil, mode.connects { server = try? TCPSocket.connect(target) }
        if server == nil, mode.connects || mode == .refuse { toServer.broken = true }
        guard let server else { return }
        if mode.passesToServer { toServer.move(from: client, to: server, after: mode.delay) }
        if mode.passesToClient { toClient.move(from: server, to: client, after: mode.delay) }
    }

    func interests(_ mode: TCPProxy.Mode) -> [pollfd] {
        // POLLHUP cannot be masked: a descriptor whose direction is closed to us is left out, or poll would spin.
        guard let server else { return [] }
        var interests: [pollfd] = []
        if mode.passesToServer { interests += toServer.interests(from: client, to: server) }
        if mode.passesToClient { interests += toClient.interests(from: server, to: client) }
        return interests
    }

    func close() {
        if toServer.broken || toClient.broken { return reset() }
        Glibc.close(client)
        if let server { Glibc.close(server) }
    }

    func reset() {
        TCPSocket.reset(client)
        if let server { TCPSocket.reset(server) }
    }
}

/// One direction of a connection: what was read and not yet written, each piece with the time it is due.
private struct OneWay {
    private var queue: [(due: ContinuousClock.Instant, bytes: [UInt8])] = []
    private var sourceEnded = false
    /// The end was read and passed on.
    private(set) var ended = false
    var broken = false

    var waits: Bool { queue.first.map { $0.due > .now } ?? false }

    mutating func move(from source: Int32, to destination: Int32, after delay: Duration) {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while !sourceEnded, queue.count < 64 {
            let count = recv(source, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 { queue.append((.now + delay, Array(buffer[..<count]))) }
            if count == 0 { sourceEnded = true }
            if count < 0 {
                if errno != EAGAIN { broken = true }
                break
            }
        }
        while let (due, bytes) = queue.first, due <= .now {
            let count = send(destination, bytes, bytes.count, Int32(Int(MSG_DONTWAIT) | Int(MSG_NOSIGNAL)))
            if count < 0 {
                if errno != EAGAIN { broken = true }
                return
            }
            queue[0].bytes.removeFirst(count)
            if queue[0].bytes.isEmpty { queue.removeFirst() } else { return }
        }
        if sourceEnded, queue.isEmpty, !ended {
            shutdown(destination, Int32(SHUT_WR))
            ended = true
        }
    }

    func interests(from source: Int32, to destination: Int32) -> [pollfd] {
        var interests: [pollfd] = []
        if !sourceEnded, queue.count < 64 { interests.append(pollfd(fd: source, events: Int16(POLLIN), revents: 0)) }
        if let first = queue.first, first.due <= .now {
            interests.append(pollfd(fd: destination, events: Int16(POLLOUT), revents: 0))
        }
        return interests
    }
}
