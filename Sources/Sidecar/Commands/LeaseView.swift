// Shows a lease: as a table for people, as JSON for scripts.

import Clock
import Lease
import Metastore
import Postgres
import Text

/// One lease's record and members, ready to be shown.
struct LeaseView {
    let record: LeaseDetails
    let members: [Member]

    private var released: Bool { record.released ?? false }
    private var suspended: Bool { record.suspended ?? false }
    private var age: Duration { record.age ?? .zero }
    private var ttl: Duration { record.ttl ?? .zero }
    private var left: Duration { max(.zero, ttl - age) }
    private var agrees: Bool { record.lockAgrees ?? false }

    /// Whether a sidecar holds it and has renewed it within the TTL, by the server's clock.
    var led: Bool { record.holder != nil && !released && left > .zero }

    /// Whether the leader said of itself, when it was last seen, that its command does not run.
    private var lacksCommand: Bool {
        led && members.contains { $0.instance == record.holder && $0.leads == true && $0.healthy == false }
    }

    /// Whether the leader has missed a renewal. One that is only a little late has not.
    private var isSilent: Bool { led && age > (record.renewInterval ?? ttl) * 1.5 }

    /// What alerts can tell apart.
    var exitCode: Int32 { lacksCommand ? LeaseExit.ledWithoutCommand : led ? LeaseExit.led : LeaseExit.nobodyLeads }

    /// For programs: never changes.
    private var state: String {
        if led {
            return suspended ? "led-suspended" : lacksCommand ? "led-without-command" : isSilent ? "led-silent" : "led"
        }
        if suspended { return "suspended" }
        if released { return "released" }
        return record.holder == nil ? "unclaimed" : "expired"
    }

    private var stateText: String {
        switch state {
        case "led-suspended": "led, and suspended: no other sidecar may take it over"
        case "led-without-command": "led, but the command does not run"
        case "led-silent": "led, but the leader has not renewed for \(Self.age(age))"
        case "suspended": "suspended: no sidecar may claim it"
        case "expired": "expired: the leader has not renewed for longer than the TTL"
        case "released": "released: no sidecar holds it"
        case "unclaimed": "unclaimed: no sidecar has held it yet"
        default: state
        }
    }

    private var lock: String {
        guard let pid = record.lockPID else {
            return led
                ? "held by nobody: the leader's session has ended. The leader opens another, or loses the lease in \(Self.age(left))"
                : "held by nobody"
        }
        let application = record.lockApplication ?? "?"
        if agrees { return "held by backend \(pid) (\(application)), as in the record" }
        return led
            ? "held by backend \(pid) (\(application)), which is not the leader's session"
            : "held by backend \(pid) (\(application)), although nobody leads"
    }

    func table(wide: Bool) -> String {
        var lines = [
            ["lease", record.name ?? ""],
            ["state", stateText],
            ["leader", led ? record.node ?? "" : "nobody"],
            ["epoch", record.epoch.map { "\($0)" } ?? ""],
            ["renewed", "\(Self.age(age)) ago"],
            ["TTL", "\(Self.age(ttl)), \(led ? "\(Self.age(left)) left" : "nothing left")"],
            ["lock", lock],
        ]
        if led { lines.insert(["leads for", Self.age(record.led)], at: 4) }
        if wide {
            lines.append(["beat", record.beat.map { "\($0)" } ?? ""])
            lines.append(["instance", record.holder?.rawValue ?? "-"])
            lines.append(["backend", record.backendPID.map { "\($0)" } ?? "-"])
            lines.append([
                "server",
                record.isSameServer == true
                    ? "not restarted since the last write" : "restarted or replaced since the last write",
            ])
        }
        return TextTable.render(lines) + "\n\n" + memberTable(wide: wide)
    }

    private func memberTable(wide: Bool) -> String {
        guard !members.isEmpty else { return "no sidecar has been seen lately" }
        var table = [["NODE", "ROLE", "HEALTHY", "SEEN", "UP", "VERSION"] + (wide ? ["BACKEND", "INSTANCE"] : [])]
        for member in members {
            let role = role(member)
            table.append(
                [
                    member.node ?? "", role, role == "silent" ? "-" : member.healthy == true ? "yes" : "no",
                    "\(Self.age(member.age)) ago", Self.age(member.up), member.version ?? "",
                ]
                    + (wide
                        ? [member.backendPID.map { "\($0)" } ?? "-", member.instance?.rawValue ?? ""] : []))
        }
        return TextTable.render(table)
    }

    /// By the record, not by what the member last said of itself.
    private func role(_ member: Member) -> String {
        if led && member.instance == record.holder { return "leader" }
        return member.age ?? .zero > member.ttl ?? .zero ? "silent" : "standby"
    }

    var json: String {
        let list = members.map { member in
            JSONObject([
                ("node", .text(member.node)), ("instance", .text(member.instance?.rawValue)),
                ("role", .text(role(member))),
                ("healthy", .truth(role(member) == "silent" ? false : member.healthy)),
                ("age_ms", .number(member.age?.milliseconds)), ("up_ms", .number(member.up?.milliseconds)),
                ("version", .text(member.version)),
            ])
        }
        return JSONObject([
            ("lease", .text(record.name)), ("state", .text(state)), ("led", .truth(led)),
            ("leader", .text(led ? record.node : nil)), ("instance", .text(record.holder?.rawValue)),
            ("epoch", .number(record.epoch?.rawValue)), ("beat", .number(record.beat)),
            ("renewed_ago_ms", .number(age.milliseconds)), ("ttl_ms", .number(ttl.milliseconds)),
            ("left_ms", .number(led ? left.milliseconds : 0)), ("released", .truth(released)),
            ("suspended", .truth(suspended)), ("claimed_at", .text(record.claimedAt)),
            ("backend_pid", .number(record.backendPID.map { Int64($0) })),
            ("lock_pid", .number(record.lockPID.map { Int64($0) })), ("lock_agrees", .truth(agrees)),
            ("members", .list(list)),
        ]).text
    }

    static func age(_ duration: Duration?) -> String { duration.map(Durations.age) ?? "-" }
}

/// The exit codes of `sidecar lease`, besides those of sysexits.h. They never change.
enum LeaseExit {
    static let led: Int32 = 0
    static let nobodyLeads: Int32 = 1
    static let ledWithoutCommand: Int32 = 2
    static let noSuchLease: Int32 = 3
}

/// Columns as wide as their widest cell. Each cell is shown on one line, whatever people wrote into the tables.
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
