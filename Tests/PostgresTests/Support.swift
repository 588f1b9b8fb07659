// What the session tests share: one server for those who only talk to it, and a loop that drives a session while
// checking that none of its calls blocks.

import Clock
import Foundation
import TestSupport
import Testing

@testable import Postgres

/// The server for tests that do not harm it. Its supervisor removes it when the test process ends.
enum Shared {
    static let server = Result { try PrivatePostgres.started(maxConnections: 100) }
}

/// A test that could not even be set up, or got something it cannot go on with.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
}

/// Limits for tests that must succeed: no slow machine may come near them.
let generous = Limits(attempt: .seconds(30), connect: .seconds(60))

/// Names resolved by a table instead of the machine's resolver; an unknown name has no address.
func tableResolver(_ table: [String: [String]]) -> Resolver {
    Resolver { name in table[name].map { .success($0) } ?? .failure(ResolveError(reason: "no such name")) }
}

/// A session that has started to connect.
func open(
    _ conninfo: String, limits: Limits = generous, resolver: Resolver = .shared, overrides: [String: String] = [:]
) throws -> Session {
    Session(
        settings: try ConnectionSettings(conninfo, overrides: overrides), applicationName: "postgres-tests",
        limits: limits, now: BootClock.now(), resolver: resolver)
}

/// A session that is connected.
func connected(
    _ conninfo: String, limits: Limits = generous, resolver: Resolver = .shared, overrides: [String: String] = [:]
) throws -> Session {
    let session = try open(conninfo, limits: limits, resolver: resolver, overrides: overrides)
    try session.connectAndWait()
    return session
}

/// Drives a session until an event that `wanted` takes, or until it is over, and returns all events.
///
/// Records an issue for a call that took 10 s: far more than any machine needs, and far less than a blocked call would.
func drive(_ session: Session, timeout: Duration = .seconds(60), until wanted: (SessionEvent) -> Bool) -> [SessionEvent]
{
    let end = BootClock.now() + timeout
    var events: [SessionEvent] = []
    while !events.contains(where: wanted), !session.isOver || session.deadline != nil {
        guard BootClock.now() < end else {
            Issue.record("not within \(timeout); events so far: \(events)")
            break
        }
        var descriptors = session.pollDescriptors.map { pollfd(fd: $0.fd, events: $0.events, revents: 0) }
        let rest = session.deadline.map { min(max(.zero, $0.since(BootClock.now())), .milliseconds(100)) }
        poll(&descriptors, nfds_t(descriptors.count), Int32((rest ?? .milliseconds(100)).milliseconds + 1))
        let before = BootClock.now()
        events += session.advance(now: before)
        let took = BootClock.now().since(before)
        if took > .seconds(10) { Issue.record("one advance took \(took)") }
    }
    return events
}

/// The failure a session ends with.
func failure(_ session: Session) throws -> SessionFailure {
    let events = drive(session) { if case .lost = $0 { true } else { false } }
    guard case .lost(let failure)? = events.last else {
        throw TestFailure(description: "the session was not lost; events: \(events)")
    }
    return failure
}

/// A TCP server that takes connections, or not even that, and never says a word.
final class BlackHole {
    /// What the client sees.
    enum Kind {
        /// The kernel accepts the connection; nothing answers on it.
        case silent
        /// The queue of the listening socket is full, so connect(2) itself gets no answer.
        case full
    }

    private let listener: Int32
    private var fillers: [Int32] = []
    let port: UInt16

    init(_ kind: Kind) throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        try withUnsafeMutableBytes(of: &address) { bytes in
            let pointer = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
            guard bind(listener, pointer, length) == 0, listen(listener, kind == .full ? 0 : 16) == 0,
                getsockname(listener, pointer, &length) == 0
            else { throw TestFailure(description: "no black hole: errno \(errno)") }
        }
        port = UInt16(bigEndian: address.sin_port)
        guard kind == .full else { return }
        // A queue of 0 takes one connection; further ones wait for room that never comes.
        for _ in 0..<4 {
            let filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            fillers.append(filler)
            _ = withUnsafeBytes(of: &address) { bytes in
                connect(filler, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress, length)
            }
        }
    }

    deinit { for descriptor in fillers + [listener] { close(descriptor) } }
}
