// What `sidecar lease` makes of tables that hands have changed.

import Metastore
import Postgres
import Testing

@testable import Sidecar

@Suite("The view of a lease") struct LeaseViewTests {
    private func view(
        ttl: Int64, age: Int64, _ more: [String: String?] = [:], members: [[String: String?]] = []
    ) throws -> LeaseView {
        let plain: [String: String?] = [
            "name": "l", "epoch": "1", "beat": "1", "holder": "i", "node": "n", "version": "0", "ttl_ms": "\(ttl)",
            "renew_ms": "2000", "released": "f", "suspended": "f", "backend_pid": nil, "same_server": "t",
            "age_ms": "\(age)",
            "led_ms": "1", "claimed_at": nil, "lock_pid": nil, "lock_application": nil, "lock_user": nil,
            "lock_agrees": "f",
        ]
        let row = plain.merging(more) { $1 }
        let result = QueryResult(columns: Array(row.keys), rows: [Array(row.values)], affectedRows: nil)
        let columns = ListMembers.Column.allCases.map(\.rawValue)
        let list = QueryResult(
            columns: columns, rows: members.map { member in columns.map { member[$0] ?? nil } }, affectedRows: nil)
        return LeaseView(
            record: try #require(try ShowLease(lease: "l").read(result)),
            members: try ListMembers(lease: "l").read(list))
    }

    private func member(_ instance: String, leads: Bool, healthy: Bool, age: Int64 = 100) -> [String: String?] {
        [
            "instance": instance, "node": "n\(instance)", "leads": leads ? "t" : "f", "healthy": healthy ? "t" : "f",
            "ttl_ms": "10000", "age_ms": "\(age)",
        ]
    }

    @Test(
        "What really happens has a state and an exit code",
        arguments: [
            (age: 100, record: [:], healthy: true, state: "led", exit: 0),
            (age: 100, record: [:], healthy: false, state: "led-without-command", exit: 2),
            (age: 3100, record: [:], healthy: true, state: "led-silent", exit: 0),
            (age: 100, record: ["suspended": "t"], healthy: true, state: "led-suspended", exit: 0),
            (age: 10_100, record: [:], healthy: true, state: "expired", exit: 1),
            (age: 10_100, record: ["suspended": "t"], healthy: true, state: "suspended", exit: 1),
            (age: 100, record: ["released": "t", "holder": nil], healthy: true, state: "released", exit: 1),
            (age: 100, record: ["holder": nil], healthy: true, state: "unclaimed", exit: 1),
        ] as [(age: Int64, record: [String: String?], healthy: Bool, state: String, exit: Int32)])
    func states(
        _ example: (age: Int64, record: [String: String?], healthy: Bool, state: String, exit: Int32)
    ) throws {
        let members = [member("i", leads: true, healthy: example.healthy), member("j", leads: false, healthy: false)]
        let view = try view(ttl: 10_000, age: example.age, example.record, members: members)
        #expect(view.json.contains("\"state\": \"\(example.state)\"") && view.exitCode == example.exit, "\(view.json)")
    }

    @Test("A crashed leader's lock is not a disagreement, and a silent member is not healthy") func crash() throws {
        let view = try view(
            ttl: 10_000, age: 4000,
            members: [member("i", leads: true, healthy: true), member("k", leads: false, healthy: true, age: 11_000)])
        #expect(view.table(wide: false).contains("the leader's session has ended"))
        #expect(view.json.contains(#""role": "silent", "healthy": false"#), "\(view.json)")
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
