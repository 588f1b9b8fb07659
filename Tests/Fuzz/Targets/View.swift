// Target `view`: `sidecar lease` shows whatever the tables hold, changed by hand or not: no value traps, a leader is never
// made up, and what scripts read is JSON.

import FoundationEssentials
import Postgres

@testable import Sidecar

private let recordColumns = [
    "name", "epoch", "beat", "holder", "node", "version", "ttl_ms", "released", "suspended", "backend_pid",
    "same_server", "age_ms", "led_ms", "claimed_at", "lock_pid", "lock_application", "lock_user", "lock_agrees",
]
private let memberColumns = [
    "instance", "node", "version", "leads", "healthy", "ttl_ms", "backend_pid", "age_ms", "up_ms",
]

/// What a script would look at.
private struct Shown: Decodable {
    struct Member: Decodable { let node: String?, role: String }

    let state: String, led: Bool, leader: String?, instance: String?, epoch: Int64?, members: [Member]
}

func fuzzView(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let members = (0..<bytes.choice(of: 3)).map { _ in memberColumns.map { _ in bytes.value() } }
    let record = libpqResult(recordColumns, [recordColumns.map { _ in bytes.value() }])
    let view = LeaseView(record: record, members: libpqResult(memberColumns, members))
    demand(!view.table(wide: bytes.bool()).isEmpty, "a table")
    let json = view.json
    guard let shown = try? JSONDecoder().decode(Shown.self, from: Data(json.utf8)) else {
        return demand(false, "JSON: \(json)")
    }
    demand(shown.members.count == members.count, "every member: \(json)")
    demand(shown.epoch == record.int64(0, "epoch"), "the epoch: \(json)")
    demand(shown.led == view.led, "the same to scripts and people: \(json)")
    if shown.led {
        demand(shown.instance != nil && record.bool(0, "released") != true, "a leader holds it: \(json)")
    } else {
        demand(shown.leader == nil && !shown.members.contains { $0.role == "leader" }, "no leader: \(json)")
    }
}
