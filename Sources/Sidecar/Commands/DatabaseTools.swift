// What the short commands that talk to the database share: a prepared session, or a clear error.

import Clock
import Metastore
import Postgres
import Settings
import Text

/// A session for one command.
struct ToolSession {
    static let limit = Preparation.toolCallLimit

    let session: Session
    let facts: SessionFacts

    /// Connects and prepares.
    /// - Throws: `Failure` with what to do.
    static func open(_ source: DatabaseSource, purpose: Preparation.Purpose, allowPooler: Bool) throws -> ToolSession {
        let session = Session(
            settings: source.settings, applicationName: "sidecar-tool",
            limits: Limits(attempt: .seconds(5), connect: limit))
        do {
            try session.connectAndWait()
        } catch {
            throw Failure.unavailable("\(error) (database from \(source.origin))")
        }
        var preparation = Preparation(
            purpose: purpose, protocolPID: session.backendPID ?? 0, allowSessionPooler: allowPooler)
        var query = preparation.first
        while true {
            let step: Preparation.Step
            do {
                step = preparation.next(after: try session.query(query, limit: limit))
            } catch let error as ServerError {
                step = preparation.next(after: error)
            } catch {
                throw Failure.unavailable("\(error)")
            }
            switch step {
            case .query(let next): query = next
            case .ready(let facts): return ToolSession(session: session, facts: facts)
            case .refuse(let error): throw failure(error)
            }
        }
    }

    /// Runs a query.
    /// - Throws: `Failure` with the server's reason.
    func query(_ query: Query) throws -> QueryResult {
        do {
            return try session.query(query, limit: Self.limit)
        } catch let error as ServerError {
            throw error.sqlState == "42501"
                ? Self.failure(.tablesNotAllowed(user: facts.user, database: facts.database))
                : Failure.unavailable("PostgreSQL refused: \(error)")
        } catch {
            throw Failure.unavailable("\(error)")
        }
    }

    /// Asks and reads the answer.
    /// - Throws: `Failure` with the server's reason, or when the answer cannot be read.
    func ask<Answer>(_ statement: some TypedStatement<Answer>) throws -> Answer {
        let result = try query(statement.query)
        do throws(UnreadableReply) {
            return try statement.read(result)
        } catch {
            throw Failure.unavailable("\(error)")
        }
    }

    private static func failure(_ error: PreparationError) -> Failure {
        switch error {
        case .notAllowed, .tablesNotAllowed: Failure(code: Failure.noPermission, message: error.description)
        case .pooler, .serverTooOld, .schemaTooNew: .configuration(error.description)
        case .standbyServer, .migrationUnderWay, .failed: .unavailable(error.description)
        }
    }
}
