// Target `record`: what the database answers to the protocol's statements. Never a guess: an answer is taken as it stands
// or is an error. Above all no record that cannot be read may look like a missing or a released one.

import Clock
import Lease
import Postgres

@testable import Metastore

private let columns = [
    "this_server", "present", "epoch", "beat", "holder", "node", "ttl_ms", "renew_ms", "released", "suspended",
    "server", "age_ms", "locked", "ours", "fenced", "unfenced", "terminated", "pid", "backend_pid", "backend_start",
]

private let statements = Statements(
    identity: Identity(lease: "l", node: "n", instance: InstanceID("i")), timing: defaultTiming, version: "0")

/// The default of `sidecar run`, which is valid.
let defaultTiming: Timing = {
    do { return try Timing(ttl: .seconds(10)) } catch { fatalError("the default timing: \(error)") }
}()

func fuzzRecord(_ input: UnsafeRawBufferPointer) {
    var bytes = Bytes(input)
    let seen = Record(
        epoch: Epoch(1), beat: 1, holder: nil, node: nil, ttl: .seconds(10), renewInterval: .seconds(2),
        released: false, suspended: false, server: ServerID(1))
    let statement = bytes.pick([
        Statement.observe, .claim(seen: seen, epochAbove: Epoch(1)), .renew(Epoch(1)), .resume(Epoch(1)),
        .release(Epoch(1), beat: 1), .terminateHolder(seen: seen, strangers: .idleFor(.seconds(1))), .unlock,
        .create(ttl: .seconds(1), epochAbove: Epoch(1)),
    ])
    // Usually as many rows and columns as was asked for; a proxy that mixes answers up may send another's.
    let rows = bytes.byte() < 240 ? 1 : bytes.choice(of: 3)
    let left = bytes.byte() < 240 ? columns.count : bytes.choice(of: columns.count)
    let names = Array(columns.prefix(left))
    let values = (0..<rows).map { _ in names.map { _ in bytes.value() } }
    let answer = Answer(result: libpqResult(names, values))
    _ = Statements.backend(answer.result)
    _ = Statements.unfenced(answer.result)
    let reply = try? statements.reply(to: statement, answer.result)
    switch statement {
    case .observe: demand(reply == answer.observed, "\(answer) is \(answer.observed as Any), not \(reply as Any)")
    case .claim: demand(reply == answer.claimed, "\(answer) is \(answer.claimed as Any), not \(reply as Any)")
    case .renew, .resume: demand(reply == answer.renewed, "\(answer) is \(answer.renewed as Any), not \(reply as Any)")
    case .release:
        demand(reply == answer.truth("released").map { .released($0) }, "\(answer), not \(reply as Any)")
    case .terminateHolder:
        demand(reply == answer.number("terminated").map { .terminated(Int($0)) }, "\(answer), not \(reply as Any)")
    default: demand(reply != nil, "nothing to misread in \(answer)")
    }
}

/// One row, and what it means to somebody who reads it with other eyes than the product's; nil where it means nothing.
private struct Answer {
    let result: QueryResult

    /// Whether it is one row with all that was asked for.
    func has(_ columns: String...) -> Bool { columns.allSatisfy { value($0) != .missing } }

    /// NULL, or no such value at all, or a text.
    enum Value: Equatable {
        case null, missing
        case text(String)
    }

    func value(_ column: String) -> Value {
        guard result.rows.count == 1, let index = result.columns.firstIndex(of: column) else { return .missing }
        return result.rows[0][index].map { .text($0) } ?? .null
    }

    func number(_ column: String) -> Int64? {
        guard case .text(let text) = value(column) else { return nil }
        let digits = text.utf8.drop { $0 == 45 || $0 == 43 }
        guard text.utf8.count - digits.count <= 1, !digits.isEmpty, digits.allSatisfy({ (48...57).contains($0) }) else {
            return nil
        }
        // What does not fit is no number.
        return digits.reduce(Int64(0) as Int64?) { sum, digit in
            guard let (high, tooLarge) = sum?.multipliedReportingOverflow(by: 10), !tooLarge else { return nil }
            let (all, over) = high.addingReportingOverflow((text.utf8.first == 45 ? -1 : 1) * (Int64(digit) - 48))
            return over ? nil : all
        }
    }

    func truth(_ column: String) -> Bool? {
        switch value(column) {
        case .text("t"): true
        case .text("f"): false
        default: nil
        }
    }

    /// Nil when unreadable, else the text or NULL.
    func text(_ column: String) -> String?? {
        switch value(column) {
        case .missing: .none
        case .null: .some(nil)
        case .text(let text): .some(text)
        }
    }

    var observed: Reply? {
        guard
            has(
                "epoch", "beat", "holder", "node", "ttl_ms", "renew_ms", "released", "suspended", "server",
                "backend_pid", "backend_start", "age_ms"),
            let server = number("this_server"), let present = truth("present")
        else { return nil }
        if !present { return .observed(Observation(record: nil, server: ServerID(server), age: .zero)) }
        guard let epoch = number("epoch"), let beat = number("beat"), let holder = text("holder"),
            let node = text("node"), let ttl = number("ttl_ms"), ttl > 0, let renew = number("renew_ms"), renew > 0,
            let released = truth("released"), let suspended = truth("suspended"), let writer = number("server")
        else { return nil }
        let record = Record(
            epoch: Epoch(epoch), beat: beat, holder: holder.map { InstanceID($0) }, node: node,
            ttl: .milliseconds(ttl), renewInterval: .milliseconds(renew), released: released, suspended: suspended,
            server: ServerID(writer), backend: backend)
        return .observed(
            Observation(record: record, server: ServerID(server), age: .milliseconds(number("age_ms") ?? 0)))
    }

    /// Only a whole one is one: a session that is half known must never be ended.
    var backend: BackendID? {
        guard let pid = number("backend_pid").flatMap({ Int32(exactly: $0) }), let start = number("backend_start")
        else {
            return nil
        }
        return BackendID(pid: pid, startedAt: start)
    }

    var claimed: Reply? {
        guard has("epoch", "fenced"), let locked = truth("locked") else { return nil }
        if !locked { return .claim(.lockBusy) }
        if value("epoch") == .null { return .claim(.changed) }
        return number("epoch").map { .claim(.claimed(Epoch($0), fenced: Int(number("fenced") ?? 0))) }
    }

    var renewed: Reply? {
        guard has("beat", "fenced", "ours", "locked") else { return nil }
        if value("beat") != .null {
            return number("beat").map { .renewal(.renewed(beat: $0, fenced: Int(number("fenced") ?? 0))) }
        }
        guard let ours = truth("ours") else { return nil }
        if !ours { return .renewal(.notOurs) }
        return truth("locked").map { .renewal($0 ? .notOurs : .lockBusy) }
    }
}
