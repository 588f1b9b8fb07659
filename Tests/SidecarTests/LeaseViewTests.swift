// What `sidecar lease` makes of tables that hands have changed.

import Metastore
import Postgres
import Testing

@testable import Sidecar

@Suite("The view of a lease") struct LeaseViewTests {
    private func view(ttl: Int64, age: Int64) throws -> LeaseView {
        let row: [String: String?] = [
            "name": "l", "epoch": "1", "beat": "1", "holder": "i", "node": "n", "version": "0", "ttl_ms": "\(ttl)",
            "released": "f", "suspended": "f", "backend_pid": nil, "same_server": "t", "age_ms": "\(age)",
            "led_ms": "1", "claimed_at": nil, "lock_pid": nil, "lock_application": nil, "lock_user": nil,
            "lock_agrees": "f",
        ]
        let result = QueryResult(columns: Array(row.keys), rows: [Array(row.values)], affectedRows: nil)
        return LeaseView(record: try #require(try ShowLease(lease: "l").read(result)), members: [])
    }

    @Test("Ages and TTLs at the ends of the scale are shown", arguments: [Int64.min, -1, 0, 1, .max])
    func extremes(age: Int64) throws {
        for ttl in [Int64.min, -1, 10_000, .max] {
            let view = try view(ttl: ttl, age: age)
            #expect(view.led == (age < ttl), "ttl \(ttl), age \(age)")
            #expect(view.table(wide: true).contains("TTL") && view.json.contains("left_ms"))
        }
    }
}
