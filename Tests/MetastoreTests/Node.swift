// One sidecar's half of the database as the tests drive it: a prepared session and the statements, one call each.

import Clock
import Foundation
import Lease
import Postgres
import TestSupport
import Testing

@testable import Metastore

final class Node {
    static let timing: Timing = {
        do { return try Timing(ttl: .seconds(10)) } catch {
            preconditionFailure("the test's timing is valid: \(error)")
        }
    }()

    let session: Session
    let identity: Identity
    private(set) var statements: Statements
    private(set) var facts: SessionFacts
    /// The sessions this sidecar has had.
    private(set) var backends: [BackendID]

    /// Connects, prepares (which makes the schema) and is ready.
    init(
        _ server: PrivatePostgres, _ name: String = "node", lease: String = "test", user: String = "postgres",
        database: String = "postgres"
    ) throws {
        identity = Identity(lease: lease, node: name, instance: InstanceID(UUID().uuidString.lowercased()))
        (session, facts) = try Self.open(server, user: user, database: database)
        statements = Statements(identity: identity, timing: Self.timing, version: "test")
        statements.database = facts.database
        statements.backend = facts.backend
        backends = [facts.backend]
    }

    /// The same sidecar through another session.
    init(again node: Node, _ server: PrivatePostgres) throws {
        identity = node.identity
        (session, facts) = try Self.open(server, user: "postgres")
        statements = node.statements
        statements.backend = facts.backend
        backends = node.backends + [facts.backend]
    }

    static func open(
        _ server: PrivatePostgres, user: String = "postgres", database: String = "postgres",
        purpose: Preparation.Purpose = .lead(callLimit: .seconds(20), idleLimit: .seconds(60))
    ) throws -> (Session, SessionFacts) {
        let session = Session(
            settings: try ConnectionSettings(server.url(user: user, database: database)),
            applicationName: "sidecar-keeper:test")
        try session.connectAndWait()
        var preparation = Preparation(
            purpose: purpose, protocolPID: try #require(session.backendPID), allowSessionPooler: false)
        var query = preparation.first
        while true {
            let step: Preparation.Step
            do {
                step = preparation.next(after: try session.query(query, limit: .seconds(20)))
            } catch let error as ServerError {
                step = preparation.next(after: error)
            }
            switch step {
            case .query(let next): query = next
            case .ready(let facts): return (session, facts)
            case .refuse(let error): throw error
            }
        }
    }

    /// Asks as this sidecar would: its renewals accept its own sessions.
    @discardableResult
    func ask(_ statement: Statement) throws -> Reply {
        let statement =
            switch statement {
            case .renew(let epoch, ours: []): Statement.renew(epoch, ours: backends)
            case .resume(let epoch, ours: [], let lock): Statement.resume(epoch, ours: backends, lock: lock)
            default: statement
            }
        return try statements.reply(to: statement, try session.query(statements.query(statement), limit: .seconds(20)))
    }

    /// Asks and reads the answer.
    func ask<Answer>(_ statement: some TypedStatement<Answer>) throws -> Answer {
        try statement.read(try session.query(statement.query, limit: .seconds(20)))
    }

    func observe() throws -> Observation {
        guard case .observed(let observation) = try ask(.observe) else { throw UnreadableReply(what: "an observation") }
        return observation
    }

    func record() throws -> Record { try #require(try observe().record) }

    func claim(_ seen: Record, above: Int64 = 0) throws -> ClaimReply {
        guard case .claim(let reply) = try ask(.claim(seen: seen, epochAbove: Epoch(above))) else {
            throw UnreadableReply(what: "a claim")
        }
        return reply
    }

    func renewal(_ statement: Statement) throws -> RenewalReply {
        guard case .renewal(let reply) = try ask(statement) else { throw UnreadableReply(what: "a renewal") }
        return reply
    }

    /// Makes the record and claims it.
    func lead() throws -> Epoch {
        try ask(.create(ttl: .seconds(10), epochAbove: Epoch(0)))
        guard case .claimed(let epoch, _) = try claim(try record()) else { throw UnreadableReply(what: "a claim") }
        return epoch
    }
}
