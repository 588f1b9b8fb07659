// How a lease looks: as a table for people, as JSON for scripts.

import Clock
import Lease
import Metastore
import Postgres
import Text

/// One lease's record and members, ready to be shown.
struct LeaseView {
    let record: QueryResult
    let members: QueryResult

    private var released: Bool { record.bool(0, "released") ?? false }
    private var suspended: Bool { record.bool(0, "suspended") ?? false }
    private var age: Int64 { record.int64(0, "age_ms") ?? 0 }
    private var ttl: Int64 { record.int64(0, "ttl_ms") ?? 0 }
    private var left: Int64 {
        // Hands may have written anything: an age far in the future, say.
        let (left, overflow) = ttl.subtractingReportingOverflow(age)
        return overflow ? (ttl > 0 ? .max : 0) : max(0, left)
    }
    private var agrees: Bool { record.bool(0, "lock_agrees") ?? false }

    /// Somebody holds it and has renewed within the TTL, by the server's clock.
    var led: Bool { record.string(0, "holder") != nil && !released && left > 0 }

    private var state: String {
        if suspended { return "suspended" }
        if led { return "led" }
        if released { return "released" }
        return record.string(0, "holder") == nil ? "unclaimed" : "expired"
    }

    private var lock: String {
        guard let pid = record.int64(0, "lock_pid") else {
            return led ? "held by nobody: DISAGREES with the record" : "held by nobody"
        }
        let application = record.string(0, "lock_application") ?? "?"
        return agrees
            ? "held by backend \(pid) (\(application)), as in the record"
            : "held by backend \(pid) (\(application)): DISAGREES with the record"
    }

    func table(wide: Bool) -> String {
        var lines = [
            ["lease", record.string(0, "name") ?? ""],
            ["state", state],
            ["leader", led ? record.string(0, "node") ?? "" : "nobody"],
            ["epoch", record.string(0, "epoch") ?? ""],
            ["renewed", "\(Self.age(age)) ago"],
            ["TTL", "\(Self.age(ttl)), \(led ? "\(Self.age(left)) left" : "nothing left")"],
            ["lock", lock],
        ]
        if led { lines.insert(["leads for", Self.age(record.int64(0, "led_ms"))], at: 4) }
        if wide {
            lines.append(["beat", record.string(0, "beat") ?? ""])
            lines.append(["instance", record.string(0, "holder") ?? "-"])
            lines.append(["backend", record.string(0, "backend_pid") ?? "-"])
            lines.append([
                "server", record.bool(0, "same_server") == true ? "the one that took the write" : "another than then",
            ])
        }
        return TextTable.render(lines) + "\n\n" + memberTable(wide: wide)
    }

    private func memberTable(wide: Bool) -> String {
        guard !members.rows.isEmpty else { return "no sidecar has been seen lately" }
        var table = [["NODE", "ROLE", "HEALTHY", "SEEN", "UP", "VERSION"] + (wide ? ["BACKEND", "INSTANCE"] : [])]
        for row in 0..<members.rows.count {
            table.append(
                [
                    members.string(row, "node") ?? "", role(row),
                    role(row) == "silent" ? "-" : members.bool(row, "healthy") == true ? "yes" : "no",
                    "\(Self.age(members.int64(row, "age_ms"))) ago", Self.age(members.int64(row, "up_ms")),
                    members.string(row, "version") ?? "",
                ]
                    + (wide
                        ? [members.string(row, "backend_pid") ?? "-", members.string(row, "instance") ?? ""] : []))
        }
        return TextTable.render(table)
    }

    /// As the record says, not as the member last said of itself.
    private func role(_ row: Int) -> String {
        if led && members.string(row, "instance") == record.string(0, "holder") { return "leader" }
        let silence = members.int64(row, "age_ms") ?? 0
        return silence > members.int64(row, "ttl_ms") ?? 0 ? "silent" : "standby"
    }

    var json: String {
        let list = (0..<members.rows.count).map { row in
            JSONObject([
                ("node", .text(members.string(row, "node"))), ("instance", .text(members.string(row, "instance"))),
                ("role", .text(role(row))),
                ("healthy", .truth(members.bool(row, "healthy"))), ("age_ms", .number(members.int64(row, "age_ms"))),
                ("up_ms", .number(members.int64(row, "up_ms"))), ("version", .text(members.string(row, "version"))),
            ])
        }
        return JSONObject([
            ("lease", .text(record.string(0, "name"))), ("state", .text(state)), ("led", .truth(led)),
            ("leader", .text(led ? record.string(0, "node") : nil)),
            ("instance", .text(record.string(0, "holder"))), ("epoch", .number(record.int64(0, "epoch"))),
            ("beat", .number(record.int64(0, "beat"))), ("renewed_ago_ms", .number(age)), ("ttl_ms", .number(ttl)),
            ("left_ms", .number(led ? left : 0)), ("released", .truth(released)), ("suspended", .truth(suspended)),
            ("claimed_at", .text(record.string(0, "claimed_at"))),
            ("backend_pid", .number(record.int64(0, "backend_pid"))),
            ("lock_pid", .number(record.int64(0, "lock_pid"))), ("lock_agrees", .truth(agrees)),
            ("members", .list(list)),
        ]).text
    }

    /// `850ms`, `4.2s`, `3m12s`, `5h03m`, `2d04h`.
    static func age(_ milliseconds: Int64?) -> String {
        guard let milliseconds else { return "-" }
        if milliseconds < 1000 { return "\(max(0, milliseconds))ms" }
        let seconds = milliseconds / 1000
        if seconds < 60 { return "\(seconds).\(milliseconds % 1000 / 100)s" }
        func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        if seconds < 3600 { return "\(seconds / 60)m\(two(seconds % 60))s" }
        if seconds < 86400 { return "\(seconds / 3600)h\(two(seconds / 60 % 60))m" }
        return "\(seconds / 86400)d\(two(seconds / 3600 % 24))h"
    }
}

/// Columns as wide as their widest cell. A cell is one line, whatever hands wrote into the tables.
enum TextTable {
    static func render(_ rows: [[String]]) -> String {
        let rows = rows.map { row in row.map { oneLine($0) } }
        var widths: [Int] = []
        for row in rows {
            for (index, cell) in row.enumerated() {
                if index == widths.count { widths.append(0) }
                widths[index] = max(widths[index], cell.count)
            }
        }
        return rows.map { row in
            row.enumerated().map { index, cell in
                index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count)
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}

/// A JSON object whose fields keep their order.
struct JSONObject {
    indirect enum Value {
        case text(String?)
        case number(Int64?)
        case truth(Bool?)
        case list([JSONObject])
    }

    let fields: [(String, Value)]

    init(_ fields: [(String, Value)]) { self.fields = fields }

    var text: String {
        "{" + fields.map { "\(JSON.string($0.0)): \(Self.text($0.1))" }.joined(separator: ", ") + "}"
    }

    private static func text(_ value: Value) -> String {
        switch value {
        case .text(let text): text.map(JSON.string) ?? "null"
        case .number(let number): number.map(String.init) ?? "null"
        case .truth(let truth): truth.map { $0 ? "true" : "false" } ?? "null"
        case .list(let list): "[" + list.map(\.text).joined(separator: ", ") + "]"
        }
    }
}
