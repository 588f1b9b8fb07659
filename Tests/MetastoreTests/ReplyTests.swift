// What rows may mean: exactly what they say, or an error. Without a server, as these rows are none that one sends.

import Clock
import Lease
import Postgres
import Testing

@testable import Metastore

@Suite("Replies") struct ReplyTests {
    private let statements: Statements
    private let whole: [String: String?] = [
        "this_server": "5", "present": "t", "epoch": "7", "beat": "3", "holder": nil, "node": nil, "ttl_ms": "10000",
        "renew_ms": "2000", "released": "f", "suspended": "f", "server": "5", "backend_pid": nil,
        "backend_start": nil, "age_ms": "1",
    ]

    init() throws {
        statements = Statements(
            identity: Identity(lease: "l", node: "n", instance: InstanceID("i")), timing: try Timing(ttl: .seconds(10)),
            version: "0")
    }

    private func reply(_ statement: Statement, _ row: [String: String?], rows: Int = 1) -> Reply? {
        let result = QueryResult(
            columns: Array(row.keys), rows: Array(repeating: Array(row.values), count: rows), affectedRows: nil)
        return try? statements.reply(to: statement, result)
    }

    @Test("A whole row is a record") func record() throws {
        guard case .observed(let observation) = reply(.observe, whole) else { throw UnreadableReply(what: "the row") }
        #expect(observation.record?.epoch == Epoch(7) && observation.record?.ttl == .seconds(10))
    }

    @Test("A record names a session by pid and start; half a name is none") func session() {
        func backend(_ pid: String?, _ start: String?) -> BackendID? {
            let row = whole.merging(["backend_pid": pid, "backend_start": start]) { $1 }
            guard case .observed(let observation) = reply(.observe, row) else { return nil }
            return observation.record?.backend
        }
        #expect(backend("7", "99") == BackendID(pid: 7, startedAt: 99))
        #expect(backend("7", nil) == nil && backend(nil, "99") == nil && backend("x", "99") == nil)
    }

    @Test(
        "A record that cannot be read is neither missing nor released",
        arguments: [
            "this_server", "present", "epoch", "beat", "ttl_ms", "renew_ms", "released", "suspended", "server",
        ])
    func unreadable(column: String) {
        for value: String? in [nil, "", "x", "99999999999999999999", "true"] {
            #expect(reply(.observe, whole.merging([column: value]) { $1 }) == nil, "\(column) = \(value ?? "NULL")")
        }
    }

    @Test("A time to live that is none would make every record free", arguments: ["ttl_ms", "renew_ms"])
    func nothingToLive(column: String) {
        for value in ["0", "-1"] { #expect(reply(.observe, whole.merging([column: value]) { $1 }) == nil) }
    }

    @Test("An unreadable epoch or beat is not a claim or renewal that failed") func unreadableNumbers() {
        let claim = Statement.claim(
            seen: Record(
                epoch: Epoch(1), beat: 1, holder: nil, node: nil, ttl: .seconds(10), renewInterval: .seconds(2),
                released: false, suspended: false, server: ServerID(1)), epochAbove: Epoch(1))
        #expect(reply(claim, ["locked": "t", "epoch": nil, "fenced": "0"]) == .claim(.changed))
        #expect(reply(claim, ["locked": "t", "epoch": "7x", "fenced": "0"]) == nil)
        #expect(
            reply(.renew(Epoch(1)), ["beat": nil, "fenced": "0", "ours": "f", "locked": "t"]) == .renewal(.notOurs))
        #expect(reply(.renew(Epoch(1)), ["beat": "7x", "fenced": "0", "ours": "f", "locked": "t"]) == nil)
    }

    @Test("The answer to another question is an error, not the end of the process") func otherAnswers() {
        #expect(reply(.observe, whole, rows: 0) == nil)
        #expect(reply(.observe, whole, rows: 2) == nil)
        for column in whole.keys { #expect(reply(.observe, whole.filter { $0.key != column }) == nil) }
        for statement: Statement in [.renew(Epoch(1)), .release(Epoch(1), beat: 1)] {
            #expect(reply(statement, ["unlocked": "t"]) == nil)
        }
        let other = QueryResult(columns: ["unlocked"], rows: [["t"]], affectedRows: nil)
        #expect(Statements.backend(other) == nil && Statements.unfenced(other) == nil)
    }
}
