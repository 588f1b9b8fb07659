// The proxy must break exactly the direction it is told to, keep what it holds back, and let it arrive late.

import Glibc
import TestSupport
import Testing

@Suite struct TCPProxyTests {
    /// A client on one end of the proxy and the server's side of the same connection on the other.
    private final class Line {
        let proxy: TCPProxy
        let listener: Int32
        let client: Int32
        private(set) var server: Int32 = -1

        init(_ mode: TCPProxy.Mode = .pass) throws {
            listener = try TCPSocket.listen()
            proxy = try TCPProxy(target: try TCPSocket.port(of: listener))
            proxy.set(mode)
            client = try TCPSocket.connect(proxy.port)
        }

        func accept() throws {
            try eventually("the proxy connects to the server") {
                server = TCPSocket.accept(listener) ?? -1
                return server >= 0
            }
        }

        deinit {
            proxy.close()
            for descriptor in [client, server, listener] where descriptor >= 0 { close(descriptor) }
        }
    }

    private func say(_ text: String, on descriptor: Int32) {
        _ = send(descriptor, Array(text.utf8), text.utf8.count, Int32(MSG_NOSIGNAL))
    }

    /// What arrived within the time, "" for the end of the connection, nil for silence.
    private func hear(_ descriptor: Int32, within milliseconds: Int32 = 5000) -> String? {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&polled, 1, milliseconds) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 1000)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return count < 0 ? "error \(errno)" : String(decoding: buffer[..<count], as: UTF8.self)
    }

    @Test func passesBothDirectionsAndTheEndOfAConnection() async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            say("ping", on: line.client)
            #expect(hear(line.server) == "ping")
            say("pong", on: line.server)
            #expect(hear(line.client) == "pong")
            shutdown(line.client, Int32(SHUT_WR))
            #expect(hear(line.server) == "")
            say("last words", on: line.server)
            #expect(hear(line.client) == "last words")
        }
    }

    @Test(arguments: [TCPProxy.Mode.blackHole, .blackHoleToServer, .blackHoleToClient])
    func aBlackHoleSwallowsItsDirectionsAndGivesThemBackLate(_ mode: TCPProxy.Mode) async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            line.proxy.set(mode)
            say("to server", on: line.client)
            say("to client", on: line.server)
            let passesToServer = mode == .blackHoleToClient
            let passesToClient = mode == .blackHoleToServer
            #expect(hear(line.server, within: passesToServer ? 5000 : 200) == (passesToServer ? "to server" : nil))
            #expect(hear(line.client, within: passesToClient ? 5000 : 200) == (passesToClient ? "to client" : nil))
            #expect(line.proxy.keptBack == (passesToServer || passesToClient ? 9 : 18))
            line.proxy.set(.pass)
            #expect(line.proxy.keptBack == 0)
            if !passesToServer { #expect(hear(line.server) == "to server") }
            if !passesToClient { #expect(hear(line.client) == "to client") }
        }
    }

    @Test func aBlackHoleHidesThatTheClientIsGone() async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            line.proxy.set(.blackHole)
            shutdown(line.client, Int32(SHUT_RDWR))
            #expect(hear(line.server, within: 200) == nil, "the server's half of the session must stay open")
            line.proxy.set(.pass)
            #expect(hear(line.server) == "")
        }
    }

    @Test func aNewConnectionIntoABlackHoleHearsNothingUntilItIsLifted() async throws {
        try await onOwnThread {
            let line = try Line(.blackHole)
            say("hello", on: line.client)
            #expect(hear(line.client, within: 200) == nil)
            #expect(TCPSocket.accept(line.listener) == nil, "the server must not see it")
            #expect(line.proxy.keptBack == 5)
            line.proxy.set(.pass)
            try line.accept()
            #expect(hear(line.server) == "hello")
        }
    }

    @Test func refusingResetsNewConnectionsAndKeepsOldOnes() async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            line.proxy.set(.refuse)
            let second = try TCPSocket.connect(line.proxy.port)
            defer { close(second) }
            #expect(hear(second) == "error \(ECONNRESET)")
            say("still here", on: line.client)
            #expect(hear(line.server) == "still here")
        }
    }

    @Test func resettingEndsBothSidesOfEveryConnection() async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            line.proxy.resetAll()
            #expect(hear(line.client) == "error \(ECONNRESET)")
            #expect(hear(line.server) == "error \(ECONNRESET)")
            try eventually("no connection is left") { line.proxy.openConnections == 0 }
        }
    }

    @Test func delayKeepsEveryByteThatLong() async throws {
        try await onOwnThread {
            let line = try Line()
            try line.accept()
            line.proxy.set(.delay(.milliseconds(300)))
            let start = ContinuousClock.now
            say("slow", on: line.client)
            #expect(hear(line.server) == "slow")
            #expect(ContinuousClock.now - start >= .milliseconds(300))
        }
    }

    @Test func anUnreachableServerResetsTheClient() async throws {
        try await onOwnThread {
            let nobody = try TCPSocket.bound()
            defer { close(nobody) }
            let proxy = try TCPProxy(target: try TCPSocket.port(of: nobody))
            defer { proxy.close() }
            let client = try TCPSocket.connect(proxy.port)
            defer { close(client) }
            #expect(hear(client) == "error \(ECONNRESET)")
        }
    }
}
