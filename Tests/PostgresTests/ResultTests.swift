// Reading from a result what it does not have. Without a server.

import Postgres
import Testing

@Suite("Results") struct ResultTests {
    @Test("A row or column that a result does not have is nil, not the end of the process")
    func outOfRange() {
        let result = QueryResult(columns: ["a", "b"], rows: [["1", "t"], ["2"]], affectedRows: nil)
        #expect(result.string(0, "a") == "1" && result.int64(0, "a") == 1 && result.bool(0, "b") == true)
        for (row, column) in [(0, "c"), (1, "b"), (2, "a"), (-1, "a"), (.max, "a")] {
            #expect(result.string(row, column) == nil && result.int64(row, column) == nil)
            #expect(result.bool(row, column) == nil)
        }
        let done = QueryResult(columns: [], rows: [], affectedRows: 3)
        #expect(done.string(0, "a") == nil && done.int64(0, "a") == nil && done.bool(0, "a") == nil)
    }
}
