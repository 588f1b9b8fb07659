// Target `view`: `sidecar lease` shows whatever the tables hold, changed by hand or not: no value traps, a leader is never
// made up, and what scripts read is JSON.

import FoundationEssentials
import Metastore
import Postgres

@testable import Sidecar

private let recordColumns = ShowLease.Column.allCases.map(\.rawValue)
private let memberColumns = ListMembers.Column.allCases.map(\.rawValue)

/// What a script would look at.
private struct Shown: Decodable {
    struct Member: Decodable { let node: String?, role: String }

    let state: String, led: Bool, leader: String?, instance: String?, epoch: Int64?, members: [Member]
}

func fuzzView(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let members = (0..<bytes.choice(of: 3)).map { _ in memberColumns.map { _ in bytes.value() } }
    let record = libpqResult(recordColumns, [recordColumns.map { _ in bytes.value() }])
    guard let details = try? ShowLease(lease: "l").read(record),
        let list = try? ListMembers(lease: "l").read(libpqResult(memberColumns, members))
    else { return demand(false, "whatever the tables hold is shown") }
    let view = LeaseView(record: details, members: list)
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
