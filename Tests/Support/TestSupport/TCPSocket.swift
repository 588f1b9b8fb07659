// The few socket calls that the proxy and its tests make: IPv4 on the loopback interface, nothing else. Every descriptor
// is close-on-exec, so that no process a test starts keeps a connection open.

import Glibc

/// Loopback TCP sockets.
public enum TCPSocket {
    /// A call that failed, with its errno.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
        init(what: String) { description = "\(what): \(String(cString: strerror(errno)))" }
    }

    private static let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

    /// A socket bound to a free port that does not listen: nobody else gets the port, and connections are refused.
    public static func bound() throws -> Int32 {
        let socket = Glibc.socket(AF_INET, kind | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard socket >= 0, withAddress(0, { bind(socket, $0, $1) }) == 0 else {
            throw Failure(what: "cannot bind to 127.0.0.1")
        }
        return socket
    }

    /// A listening socket on a free port, non-blocking.
    public static func listen() throws -> Int32 {
        let listener = try bound()
        guard Glibc.listen(listener, 64) == 0 else { throw Failure(what: "cannot listen on 127.0.0.1") }
        return listener
    }

    /// The port that a socket was given.
    public static func port(of listener: Int32) throws -> UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listener, $0, &length) }
        }
        guard result == 0 else { throw Failure(what: "getsockname") }
        return UInt16(bigEndian: address.sin_port)
    }

    /// The next waiting connection, if there is one.
    public static func accept(_ listener: Int32) -> Int32? {
        // accept4(2) is not offered to Swift.
        descriptorsAreSafe.withLock { _ in
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else { return nil }
            _ = fcntl(client, F_SETFD, FD_CLOEXEC)
            return client
        }
    }

    /// Connects; on the loopback interface that is a matter of microseconds.
    public static func connect(_ port: UInt16) throws -> Int32 {
        let client = socket(AF_INET, kind, 0)
        guard client >= 0 else { throw Failure(what: "socket") }
        guard withAddress(port, { Glibc.connect(client, $0, $1) }) == 0 else {
            let failure = Failure(what: "cannot connect to 127.0.0.1:\(port)")
            close(client)
            throw failure
        }
        var on: Int32 = 1
        setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        return client
    }

    /// Closes with a reset instead of an orderly end.
    public static func reset(_ descriptor: Int32) {
        var abort = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
        close(descriptor)
    }

    private static func withAddress(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr = in_addr(s_addr: in_addr_t(INADDR_LOOPBACK).bigEndian)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
