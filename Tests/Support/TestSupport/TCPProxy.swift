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
        var keptBack = 0
        /// Orders given, how many of them the thread has read (from then on it acts by them), and how many it had read when it
        /// counted.
        var given = 0
        var taken = 0
        var counted = 0
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
                report: { [self] open, keptBack in
                    shared.withLock {
                        $0.open = open
                        $0.keptBack = keptBack
                        $0.counted = $0.taken
                    }
                })
        }
    }

    /// Switches, also for the connections that are open. In force when this returns.
    public func set(_ mode: Mode) { order { $0.mode = mode } }

    /// Resets every open connection, on both sides.
    public func resetAll() { order { $0.reset = true } }

    /// How many client connections are open, held ones included.
    public var openConnections: Int { shared.withLock { $0.open } }

    /// How many bytes the mode of now has kept back: those that wait in a black hole, those that a delay has made late.
    public var keptBack: Int {
        let mine = order { _ in }
        while let mine, shared.withLock({ $0.counted < mine && !$0.closed }) { usleep(100) }
        return shared.withLock { $0.keptBack }
    }

    /// Ends the proxy and resets its connections. Must be called: the thread holds the proxy.
    public func close() { order { $0.closed = true } }

    /// Returns the order's number when the thread has read it; nil when there is no thread any more.
    @discardableResult
    private func order(_ change: (inout Shared) -> Void) -> Int? {
        let order: Int? = shared.withLock { state in
            guard !state.closed else { return nil }
            change(&state)
            state.given += 1
            return state.given
        }
        guard let mine = order else { return nil }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
        while shared.withLock({ $0.taken < mine }) { usleep(100) }
        return mine
    }
}

/// The proxy's thread: owns every descriptor, asks for its orders on each turn.
private struct ProxyLoop: Sendable {
    let listener: Int32
    let wake: Int32
    let target: UInt16

    func run(orders: () -> (mode: TCPProxy.Mode, reset: Bool, closed: Bool), report: (Int, Int) -> Void) {
        var connections: [ProxiedConnection] = []
        var before = TCPProxy.Mode.pass
        var late = 0
        while true {
            let (mode, reset, closed) = orders()
            // Only now, under orders not older than the connection: else one made after `refuse` would slip in.
            while let client = TCPSocket.accept(listener) { connections.append(ProxiedConnection(client)) }
            if reset || closed {
                for connection in connections { connection.reset() }
                connections = []
            }
            if closed { break }
            if mode != before { (before, late) = (mode, 0) }
            for index in connections.indices { late += connections[index].move(mode, target: target) }
            let held = connections.reduce(0) { $0 + $1.held(mode) }
            for connection in connections where connection.finished { connection.close() }
            connections.removeAll { $0.finished }
            report(connections.count, held + late)

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

    /// Carries over what may pass now. Returns how many bytes it read that are to be late.
    mutating func move(_ mode: TCPProxy.Mode, target: UInt16) -> Int {
        if server == nil, mode.connects { server = try? TCPSocket.connect(target) }
        if server == nil, mode.connects || mode == .refuse { toServer.broken = true }
        guard let server else { return 0 }
        var read = 0
        if mode.passesToServer { read += toServer.move(from: client, to: server, after: mode.delay) }
        if mode.passesToClient { read += toClient.move(from: server, to: client, after: mode.delay) }
        return mode.delay > .zero ? read : 0
    }

    /// How many bytes wait for another mode.
    func held(_ mode: TCPProxy.Mode) -> Int {
        guard let server else { return mode.connects || toServer.broken ? 0 : toServer.unsent(from: client) }
        return (mode.passesToServer ? 0 : toServer.unsent(from: client))
            + (mode.passesToClient ? 0 : toClient.unsent(from: server))
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

    /// What was read, and what the kernel has for us.
    func unsent(from source: Int32) -> Int {
        var unread: Int32 = 0
        guard ioctl(source, UInt(FIONREAD), &unread) == 0 else { return 0 }
        return queue.reduce(Int(unread)) { $0 + $1.bytes.count }
    }

    /// Returns how many bytes it read.
    mutating func move(from source: Int32, to destination: Int32, after delay: Duration) -> Int {
        var buffer = [UInt8](repeating: 0, count: 65536)
        var read = 0
        while !sourceEnded, queue.count < 64 {
            let count = recv(source, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                queue.append((.now + delay, Array(buffer[..<count])))
                read += count
            }
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
                return read
            }
            queue[0].bytes.removeFirst(count)
            if queue[0].bytes.isEmpty { queue.removeFirst() } else { return read }
        }
        if sourceEnded, queue.isEmpty, !ended {
            shutdown(destination, Int32(SHUT_WR))
            ended = true
        }
        return read
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
