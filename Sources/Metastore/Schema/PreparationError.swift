// Why a session could not be prepared, and what to do about it.

/// Why a session cannot be used.
public enum PreparationError: Error, Equatable, Sendable, CustomStringConvertible {
    case pooler
    case serverTooOld(version: Int)
    case standbyServer
    case schemaTooNew(version: Int)
    /// The schema may not be created or upgraded.
    case notAllowed(user: String, database: String)
    /// The schema exists, but the role may not use it.
    case tablesNotAllowed(user: String, database: String)
    case migrationUnderWay
    case failed(String)

    /// Whether trying again is useless until a person changes something.
    public var isPermanent: Bool {
        switch self {
        case .pooler, .serverTooOld, .schemaTooNew: true
        case .standbyServer, .notAllowed, .tablesNotAllowed, .migrationUnderWay, .failed: false
        }
    }

    public var description: String {
        switch self {
        case .pooler:
            "the connection goes through a pooler, but a lease needs a database session of its own: connect to the "
                + "server directly, or pass --allow-session-pooler if the pooler is in session mode"
        case .serverTooOld(let version):
            "PostgreSQL \(version / 10000) is too old: 12 or later is needed"
        case .standbyServer:
            "the server is a read-only standby: name the primary, or all hosts, in the database URL"
        case .schemaTooNew(let version):
            "the schema \"sidecar\" has version \(version), which needs a newer sidecar: upgrade this sidecar"
        case .notAllowed(let user, let database):
            "role \"\(user)\" may not create or upgrade the schema \"sidecar\" in database \"\(database)\": run `sidecar "
                + "migrate` as its owner, or grant CREATE on the database"
        case .tablesNotAllowed(let user, _):
            "role \"\(user)\" may not use the schema \"sidecar\": as its owner, GRANT USAGE ON SCHEMA sidecar TO \"\(user)\"; "
                + "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sidecar TO \"\(user)\" (SELECT is enough to look)"
        case .migrationUnderWay: "another sidecar is creating or upgrading the schema"
        case .failed(let reason): reason
        }
    }
}
