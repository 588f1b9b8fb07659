// What the short commands that talk to the database share: their options, and a prepared session or a clear error.

import ArgumentParser
import Clock
import Metastore
import Postgres
import Settings
import Text

/// `--database-url` and its kin.
struct DatabaseOptions: ParsableArguments {
    @Option(help: "PostgreSQL of the lease, URL or keywords (SIDECAR_DATABASE_URL; else PG*, else Airflow's setting).")
    var databaseUrl: String?
    @Option(help: "File with that URL (SIDECAR_DATABASE_URL_FILE).")
    var databaseUrlFile: String?
    @Flag(help: "Accept a connection pooler in session mode (SIDECAR_ALLOW_SESSION_POOLER).")
    var allowSessionPooler = false

    func source(_ environment: Environment) throws -> DatabaseSource {
        try DatabaseSource.find(option: databaseUrl, file: databaseUrlFile, environment: environment)
    }

    func poolerAllowed(_ environment: Environment) throws -> Bool {
        try SettingReader(environment: environment).flag(allowSessionPooler, "SIDECAR_ALLOW_SESSION_POOLER")
    }
}

/// A session for one command.
struct ToolSession {
    static let limit = Duration.seconds(10)

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
            let result: QueryResult
            do {
                result = try session.query(query, limit: limit)
            } catch let error as ServerError {
                throw failure(preparation.explain(error))
            } catch {
                throw Failure.unavailable("\(error)")
            }
            switch preparation.next(after: result) {
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

    private static func failure(_ error: PreparationError) -> Failure {
        switch error {
        case .notAllowed, .tablesNotAllowed: Failure(code: Failure.noPermission, message: error.description)
        case .pooler, .serverTooOld, .schemaTooNew: .configuration(error.description)
        case .standbyServer, .migrationUnderWay, .failed: .unavailable(error.description)
        }
    }
}
