// What a session's preparation makes of answers that no PostgreSQL gives to its questions, but a proxy that mixes answers
// up may: a failure that is tried again. Without a server.

import Lease
import Postgres
import Testing

@testable import Metastore

@Suite("Answers while preparing") struct PreparationTests {
    private static let server: [String: String?] = [
        "pid": "7", "backend_start": "1700000000000001", "version": "150018", "database": "d", "role": "r",
        "login": "r",
        "recovery": "f", "has_schema": "t",
    ]
    /// The answer to SETs.
    private static let done = QueryResult(columns: [], rows: [], affectedRows: nil)
    private static let schema: [String: String?] = ["version": "\(Schema.current)", "compatible_from": "1"]

    private enum Stage: CaseIterable {
        case identity, schema
    }

    private func result(_ row: [String: String?], rows: Int = 1) -> QueryResult {
        QueryResult(columns: Array(row.keys), rows: Array(repeating: Array(row.values), count: rows), affectedRows: nil)
    }

    private func preparation(_ stage: Stage, pooler: Bool = false) -> Preparation {
        var preparation = Preparation(purpose: .look, protocolPID: 7, allowSessionPooler: pooler)
        if stage == .schema {
            _ = preparation.next(after: result(Self.server))
            _ = preparation.next(after: Self.done)
        }
        return preparation
    }

    /// How the answer is refused; nil when it is taken.
    private func refusal(_ stage: Stage, _ answer: QueryResult, pooler: Bool = false) -> PreparationError? {
        var preparation = preparation(stage, pooler: pooler)
        guard case .refuse(let error) = preparation.next(after: answer) else { return nil }
        return error
    }

    @Test("Whole answers prepare a session") func whole() throws {
        #expect(refusal(.identity, result(Self.server)) == nil)
        var preparation = preparation(.schema)
        guard case .ready(let facts) = preparation.next(after: result(Self.schema)) else {
            throw UnreadableReply(what: "not ready")
        }
        #expect(
            facts
                == SessionFacts(
                    backendPID: 7, backendStart: 1_700_000_000_000_001, serverVersion: 150018, database: "d", user: "r",
                    login: "r", assumed: nil, schemaVersion: Schema.current))
    }

    @Test("A question that the role's own limit cancelled is asked again; another error, or one for ever, is not")
    func cancelled() {
        let (cancelled, other) = (
            ServerError(sqlState: "57014", message: "m"), ServerError(sqlState: "42501", message: "m")
        )
        var preparation = preparation(.identity)
        let first = preparation.first
        for _ in 0..<3 {
            guard case .query(let again) = preparation.next(after: cancelled), again == first else {
                Issue.record("not asked again")
                return
            }
        }
        guard case .query(let settings) = preparation.next(after: result(Self.server)) else {
            Issue.record("no settings")
            return
        }
        guard case .query(let again) = preparation.next(after: cancelled), again == settings else {
            Issue.record("the settings are not sent again")
            return
        }
        guard case .refuse = preparation.next(after: other) else {
            Issue.record("another error is not refused")
            return
        }
        for _ in 0..<100 { if case .refuse = preparation.next(after: cancelled) { return } }
        Issue.record("asked for ever")
    }

    @Test("The answer to another question is a failure to be tried again, not the end of the process")
    func otherAnswers() {
        for (stage, row) in [(Stage.identity, Self.server), (.schema, Self.schema)] {
            var others = [
                QueryResult(columns: [], rows: [], affectedRows: nil),
                QueryResult(columns: ["unlocked"], rows: [["t"]], affectedRows: 1),
                result(row, rows: 0), result(row, rows: 2),
            ]
            others += row.keys.map { column in result(row.filter { $0.key != column }) }
            for other in others {
                let error = refusal(stage, other)
                #expect(error == .failed("\(UnreadableReply.otherQuestion)"), "\(other)")
                #expect(error?.isPermanent == false)
            }
        }
    }

    @Test("A value that cannot be read is a failure to be tried again, not a server that is too old or has no schema")
    func unreadable() {
        for (stage, row) in [(Stage.identity, Self.server), (.schema, Self.schema)] {
            for column in row.keys {
                var values: [String?] = [nil]
                if !["database", "role", "login"].contains(column) {
                    values += ["", "x", "99999999999999999999", "true"]
                }
                for value in values {
                    let error = refusal(stage, result(row.merging([column: value]) { $1 }), pooler: true)
                    #expect(error?.isPermanent == false, "\(column) = \(value ?? "NULL"): \(String(describing: error))")
                    guard case .failed = error else {
                        Issue.record("\(column) = \(value ?? "NULL"): \(String(describing: error))")
                        continue
                    }
                }
            }
        }
    }
}
