// Servers that stop answering, go away or are frozen: the session says so in time, and nothing it does ever waits.
//
// No test asserts a speed. A call that blocks on a frozen server blocks until that is thawed, which these tests never do
// before they are done: so "it returned" is the assertion, and `drive` adds a bound of seconds to each call.

import Clock
import Foundation
import TestSupport
import Testing

@testable import Postgres

@Suite struct LossTests {
    @Test func aQueryWithoutAnAnswerInTimeEndsTheSession() throws {
        let session = try connected(Shared.server.get().url)
        session.send(Query("SELECT pg_sleep(600)"), now: BootClock.now(), limit: .milliseconds(200))
        let lost = try failure(session)
        guard case .queryTimeout(_, .milliseconds(200)) = lost else { throw lost }
        #expect(lost.description.contains("within 0.2 seconds"))
        #expect(session.isOver && session.pollDescriptors.isEmpty && session.deadline == nil)
        #expect(session.advance(now: BootClock.now()).isEmpty)
    }

    @Test func anAnswerThatIsThereCountsEvenWhenItsReaderIsLate() throws {
        // The process was stopped, say. The answer is to this query; whether it comes too late is the caller's to judge.
        let session = try connected(Shared.server.get().url)
        session.send(Query("SELECT 1 AS one"), now: BootClock.now(), limit: .seconds(30))
        var descriptor = pollfd(fd: session.pollDescriptors[0].fd, events: Int16(POLLIN), revents: 0)
        #expect(poll(&descriptor, 1, 30_000) == 1)
        let events = session.advance(now: BootClock.now() + .seconds(3600))
        #expect(events == [.result(QueryResult(columns: ["one"], rows: [["1"]], affectedRows: 1))])
    }

    @Test(arguments: [false, true]) func aTerminatedBackendSaysWhy(whileBusy: Bool) throws {
        let server = try Shared.server.get()
        let session = try connected(server.url)
        let pid = try #require(session.backendPID)
        if whileBusy { session.send(Query("SELECT pg_sleep(600)"), now: BootClock.now(), limit: .seconds(600)) }
        try eventually("the backend is terminated") {
            try server.psql("SELECT pg_terminate_backend(\(pid))") == "t"
        }
        let lost = try failure(session)
        guard case .serverClosed(let peer, let error) = lost else { throw lost }
        #expect(peer == "127.0.0.1:\(server.port)" && error.sqlState == "57P01" && error.severity == "FATAL")
        #expect(
            lost.description.hasSuffix(
                "closed the session: terminating connection due to administrator command (SQLSTATE 57P01)"))
    }

    @Test func aServerThatIsKilledBreaksTheSession() throws {
        let server = try PrivatePostgres.started()
        let idle = try connected(server.url)
        server.signal(SIGKILL)
        let lost = try failure(idle)
        if case .connect = lost { throw lost }
        #expect(lost.description.contains("127.0.0.1:\(server.port)"), "\(lost)")
        try server.restart(.immediate)
        #expect(try connected(server.url).isIdle)
    }

    @Test func aSendOnABrokenConnectionIsReportedByAdvance() throws {
        let server = try PrivatePostgres.started()
        let session = try connected(server.url)
        let pid = try #require(session.backendPID)
        _ = try server.psql("SELECT pg_terminate_backend(\(pid))")
        try eventually("the backend is gone") {
            try server.psql("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
        }
        session.send(Query("SELECT 1"), now: BootClock.now(), limit: .seconds(60))
        let lost = try failure(session)
        guard case .serverClosed(_, let error) = lost else { throw lost }
        #expect(error.sqlState == "57P01")
    }

    @Test func aFrozenServerHoldsUpNobody() throws {
        let server = try PrivatePostgres.started()
        defer { server.signal(SIGCONT) }
        let limits = Limits(attempt: .milliseconds(300), connect: .milliseconds(600))
        let short = try connected(server.url)
        let long = try connected(server.socketURL)
        let listening = try connected(server.url)
        let abandoned = try connected(server.url)
        let idle = try connected(server.url)
        server.signal(SIGSTOP)
        for pid in [short, long, listening, abandoned, idle].compactMap(\.backendPID) {
            try eventually("backend \(pid) is frozen") { processState(pid) == "T" }
        }

        short.send(Query("SELECT 1"), now: BootClock.now(), limit: .milliseconds(300))
        guard case .queryTimeout = try failure(short) else { throw TestFailure(description: "not a timeout") }
        // More than all buffers between here and the server hold: it cannot be sent, let alone answered.
        let huge = Query("SELECT length(\(String(repeating: "x", count: 50_000_000)))")
        long.send(huge, now: BootClock.now(), limit: .milliseconds(300))
        #expect(long.pollDescriptors[0].events == Int16(POLLIN | POLLOUT))
        guard case .queryTimeout = try failure(long) else { throw TestFailure(description: "not a timeout") }
        abandoned.send(huge, now: BootClock.now(), limit: .seconds(600))
        abandoned.close()
        idle.close()
        #expect(listening.advance(now: BootClock.now()).isEmpty && listening.isIdle)

        // The kernel still takes connections for it.
        for url in [server.url, server.socketURL] {
            let lost = try failure(open(url, limits: limits))
            guard case .connect(_, let failures) = lost else { throw lost }
            #expect(failures.map(\.step) == [.timeout])
        }
        let connecting = try open(server.url)
        connecting.close()
    }

    @Test func idleSessionsAreEndedByTheServersLimitWithItsReason() throws {
        let session = try connected(Shared.server.get().url)
        _ = try session.query(Query("SET idle_session_timeout = '100ms'"), limit: .seconds(60))
        guard case .serverClosed(_, let error) = try failure(session) else {
            throw TestFailure(description: "not closed by the server")
        }
        #expect(error.sqlState == "57P05")
    }

    @Test func aServerThatIsShutDownSaysSo() throws {
        let server = try PrivatePostgres.started()
        let session = try connected(server.url)
        try server.stop(.fast)
        guard case .serverClosed(_, let error) = try failure(session) else {
            throw TestFailure(description: "not closed by the server")
        }
        #expect(error.sqlState == "57P01")
        let refused = try failure(open(server.url))
        #expect(refused.description.contains("Connection refused"), "\(refused)")
    }
}
