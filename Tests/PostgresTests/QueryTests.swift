// Queries and notifications on a healthy server.

import Clock
import TestSupport
import Testing

@testable import Postgres

@Suite struct QueryTests {
    let session: Session
    let server: PrivatePostgres
    init() throws {
        server = try Shared.server.get()
        session = try connected(server.url)
    }

    private func run(_ query: Query) throws -> QueryResult { try session.query(query, limit: .seconds(60)) }

    @Test func valuesAndNullsTravelAsText() throws {
        let (number, text, none) = (-7, "ü'\"\\", String?.none)
        let result = try run(Query("SELECT \(number) AS number, \(text) AS text, \(none) AS none, true AS yes"))
        #expect(result.columns == ["number", "text", "none", "yes"])
        #expect(result.int64(0, "number") == -7)
        #expect(result.string(0, "text") == "ü'\"\\")
        #expect(result.string(0, "none") == nil && result.int64(0, "none") == nil && result.bool(0, "none") == nil)
        #expect(result.bool(0, "yes") == true && result.bool(0, "text") == nil)
    }

    @Test func countsAffectedRows() throws {
        #expect(try run(Query("CREATE TEMP TABLE t AS SELECT generate_series(1, 5) AS a")).affectedRows == 5)
        #expect(try run(Query("UPDATE t SET a = a + 1 WHERE a > \(2)")).affectedRows == 3)
        #expect(try run(Query("UPDATE t SET a = 0 WHERE false")).affectedRows == 0)
        #expect(try run(Query("SET work_mem = '4MB'")).affectedRows == nil)
    }

    @Test func aScriptReturnsItsLastResultOrItsFirstError() throws {
        #expect(try run(.script("SELECT 1 AS a; SELECT 2 AS b")).int64(0, "b") == 2)
        #expect(try run(.script("")).rows.isEmpty)
        let error = #expect(throws: ServerError.self) { try run(.script("SELECT 1; SELECT 1/0; SELECT 3")) }
        #expect(error?.sqlState == "22012")
        #expect(try run(Query("SELECT 4 AS d")).int64(0, "d") == 4)
    }

    @Test func anErrorLeavesTheSessionUsable() throws {
        let error = #expect(throws: ServerError.self) { try run(Query("SELECT * FROM nowhere")) }
        #expect(error?.sqlState == "42P01" && error?.severity == "ERROR")
        #expect(error?.description == "relation \"nowhere\" does not exist (SQLSTATE 42P01)")
        let raised = #expect(throws: ServerError.self) {
            try run(.script("DO $$ BEGIN RAISE 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'XX001'; END $$"))
        }
        #expect(raised == ServerError(sqlState: "XX001", message: "m", detail: "d", hint: "h"))
        #expect(session.isIdle)
        #expect(try run(Query("SELECT 1 AS one")).int64(0, "one") == 1)
    }

    @Test func aLargeResultAndALargeQueryArriveWhole() throws {
        let rows = try run(Query("SELECT i, repeat('x', 1000) AS x FROM generate_series(1, 20000) i"))
        #expect(rows.rows.count == 20_000 && rows.int64(19_999, "i") == 20_000)
        let text = String(repeating: "y", count: 20_000_000)
        #expect(try run(Query("SELECT length(\(text)) AS length")).int64(0, "length") == 20_000_000)
    }

    @Test func notificationsArriveWhileIdle() throws {
        _ = try run(Query("LISTEN lease"))
        _ = try server.psql("NOTIFY lease, 'one'; NOTIFY elsewhere, 'not this'; NOTIFY lease")
        var events: [SessionEvent] = []
        while events.count < 2, !session.isOver {
            let more = drive(session) { if case .notification = $0 { true } else { false } }
            guard !more.isEmpty else { break }
            events += more
        }
        #expect(
            events == [
                .notification(channel: "lease", payload: "one"), .notification(channel: "lease", payload: ""),
            ])
        #expect(session.isIdle)
    }

    @Test func notificationsArriveBesideAResult() throws {
        _ = try run(Query("LISTEN mine"))
        session.send(Query("SELECT pg_notify('mine', 'p')"), now: BootClock.now(), limit: .seconds(60))
        var events: [SessionEvent] = []
        try eventually("result and notification") {
            events += session.wait(limit: .milliseconds(10))
            return events.count >= 2 || session.isOver
        }
        #expect(events.contains(.notification(channel: "mine", payload: "p")))
        #expect(events.contains { if case .result = $0 { true } else { false } })
    }

    @Test func copyIsRefusedAndEndsTheSession() throws {
        let failure = #expect(throws: SessionFailure.self) { try run(.script("COPY (SELECT 1) TO STDOUT")) }
        #expect(failure?.description.contains("COPY to or from the client is not supported") == true)
        #expect(session.isOver)
    }
}
