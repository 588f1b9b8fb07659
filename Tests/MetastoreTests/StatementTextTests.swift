// The text of every statement: the same whatever the values, fit to be prepared with the types it
// declares, and answered with the columns that its reader asks for.

import Clock
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

/// Every statement with parameters, under its name, filled with values.
private func everyStatement(_ writer: Writer, _ seen: Record, _ ours: [BackendID], _ flag: Bool) -> [(String, SQL)] {
    let statements = Statements(writer)
    let asked: [(String, Statement)] = [
        ("observe", .observe), ("create", .create(ttl: seen.ttl, epochAbove: seen.epoch)),
        ("claim", .claim(seen: seen, epochAbove: seen.epoch, lock: flag ? .waived : .needed)),
        ("terminate", .terminateHolder(seen: seen, strangers: flag ? .any : .idleFor(seen.ttl))),
        ("renew", .renew(seen.epoch, ours: ours)),
        ("resume", .resume(seen.epoch, ours: ours, lock: flag ? .waived : .needed)),
        ("release", .release(seen.epoch, beat: seen.beat)), ("unlock", .unlock),
        ("notify", .auxiliary(.notify)), ("rehearse", .auxiliary(.rehearse)),
        ("register", .auxiliary(.register(leading: flag, healthy: !flag))), ("leave", .auxiliary(.leave)),
        ("begin history", .auxiliary(.historyBegin(seen.epoch, ago: .zero, previousRenewedAgo: seen.ttl))),
        ("end history", .auxiliary(.historyEnd(seen.epoch, reason: .released(flag ? .plain : .starved), ago: .zero))),
    ]
    let others: [(String, SQL)] = [
        ("show", ShowLease(lease: writer.lease).sql), ("members", ListMembers(lease: writer.lease).sql),
        ("history", ListHistory(lease: writer.lease, limit: ours.count).sql), ("leases", ListLeases().sql),
        ("lock record", LockRecord(lease: writer.lease).sql), ("lockers", ListLockers().sql),
        ("identify", Identify().sql), ("schema version", ReadSchemaVersion().sql), ("login", BecomeLogin().sql),
    ]
    return asked.map { ($0, statements.typed($1).sql) } + others
}

private func writer(_ name: String, _ backend: BackendID?) throws -> Writer {
    let identity = Identity(lease: name, node: name, instance: InstanceID("01234567-89ab-cdef-0123-456789abcdef"))
    return Writer(
        identity: identity, timing: try Timing(ttl: .seconds(10 + name.count)), version: name, database: name,
        backend: backend)
}

@Suite("The text of statements") struct StatementTextTests {
    private let statements: [(String, SQL)]
    private let others: [(String, SQL)]

    init() throws {
        let (one, other) = (BackendID(pid: 1, startedAt: 2), BackendID(pid: 3, startedAt: 4))
        // Equal values, then different and hostile ones.
        statements = everyStatement(
            try writer("l", nil),
            Record(
                epoch: Epoch(1), beat: 1, holder: nil, node: nil, ttl: .seconds(1), renewInterval: .seconds(1),
                released: false, suspended: false, server: ServerID(1)), [], false)
        others = everyStatement(
            try writer("'; $1 \\ \"", one),
            Record(
                epoch: Epoch(.max), beat: 77, holder: InstanceID("i"), node: "n", ttl: .seconds(99),
                renewInterval: .seconds(2), released: true, suspended: true, server: ServerID(5), backend: one),
            [one, other], true)
    }

    @Test("It is the same whatever the values, and so are the types") func stable() {
        #expect(statements.count == others.count && statements.count > 20)
        for ((name, one), (_, other)) in zip(statements, others) {
            #expect(one.text == other.text, "\(name)")
            #expect(one.parameters.map(\.type) == other.parameters.map(\.type), "\(name)")
        }
    }

    @Test("It refers to each parameter once, in order: none is numbered by hand") func numbering() {
        for (name, sql) in statements {
            let numbers = sql.text.matches(of: /\$([0-9]+)/).compactMap { Int($0.output.1) }
            #expect(numbers == sql.parameters.indices.map { $0 + 1 }, "\(name)")
        }
    }

    @Test("A rehearsal is the claim's own statement, with other values") func rehearsal() throws {
        let claim = try #require(statements.first { $0.0 == "claim" }).1
        let rehearsal = try #require(statements.first { $0.0 == "rehearse" }).1
        #expect(rehearsal.text == claim.text && rehearsal.parameters.map(\.type) == claim.parameters.map(\.type))
        #expect(rehearsal.parameters != claim.parameters)
    }

    @Test("PostgreSQL prepares every statement with the types that it declares") func prepares() throws {
        let server = try PrivatePostgres.started()
        defer { server.remove() }
        let session = try Node.open(server).0
        let types: [SQL.ValueType: String] = [
            .boolean: "boolean", .bigint: "bigint", .text: "text", .oid: "oid", .textArray: "text[]", .uuid: "uuid",
        ]
        for (index, (name, sql)) in statements.enumerated() {
            let list = sql.parameters.compactMap { types[$0.type] }.joined(separator: ", ")
            let declared = list.isEmpty ? "" : "(\(list))"
            do {
                _ = try session.query(.script("PREPARE s\(index) \(declared) AS \(sql.text)"), limit: .seconds(20))
            } catch {
                Issue.record("\(name): \(error)\n\(sql.text)")
            }
        }
    }
}
