// Where the database is and how to log in: a libpq connection string merged with the PG* environment, the service
// file and the defaults, exactly as libpq itself would do it, but without connecting. Holds the password and never
// shows it.

import Glibc

/// Everything libpq needs to connect, resolved once. The environment is not read again later.
public struct ConnectionSettings: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// One entry of the host list.
    struct Entry: Sendable, Equatable {
        /// A name, a numeric address, a socket directory; nil when only `address` is given.
        var host: String?
        /// The address to use instead of looking `host` up (`hostaddr`).
        var address: String?
        var port: UInt16

        /// Host and port, for messages.
        var description: String {
            let name = host ?? address ?? ""
            return name.contains(":") ? "[\(name)]:\(port)" : "\(name):\(port)"
        }
        /// A Unix socket: a directory, or a name in the abstract namespace.
        var isSocket: Bool {
            let first = host?.utf8.first
            return address == nil && (first == UInt8(ascii: "/") || first == UInt8(ascii: "@"))
        }
    }

    /// libpq keywords and values, except those that `entries` stands for.
    let values: [String: String]
    /// The hosts in the order to try them; never empty.
    let entries: [Entry]
    /// A password file that exists but cannot be used, and why, for a warning. libpq is given no password file then,
    /// because it would complain on standard error at every attempt.
    public let passwordFileProblem: String?

    /// Reads a libpq connection string: a URL (`postgresql://user@host1,host2/db?sslmode=require`), keywords
    /// (`host=db user=airflow`), or nil or blank for what the PG* environment says.
    ///
    /// - Parameters:
    ///   - conninfo: see libpq, "Connection Strings". A `service=` in it works.
    ///   - overrides: libpq keywords that win over it.
    ///   - service: the service to use where it names none, in place of `PGSERVICE` (`leaveServiceFile`).
    /// - Throws: `SettingsError`, whose text never quotes the connection string.
    public init(
        _ conninfo: String? = nil, overrides: [String: String] = [:], service: String? = nil
    ) throws(SettingsError) {
        var given = try parseConninfo(conninfo ?? "")
        given.merge(overrides) { $1 }
        if let service, given["service"] == nil { given["service"] = service }
        try examineServiceFile(given)
        let passwordFile = unusablePasswordFile(given)
        if passwordFile != nil { given["passfile"] = "/nonexistent/pgpass" }
        passwordFileProblem = passwordFile.map {
            "the password file \($0) is not used: it must be a file of at most 10 MB that group and others have no access to "
                + "(chmod 600)"
        }
        var values = try completeConninfo(given)

        let attributes = given["target_session_attrs"] ?? values["target_session_attrs"] ?? "any"
        switch attributes {
        case "read-write", "primary": break
        case "any": values["target_session_attrs"] = given["target_session_attrs"] ?? "read-write"
        default:
            throw SettingsError(
                reason: "target_session_attrs must be read-write, primary or any: a lease lives on a primary")
        }
        // libpq's default `prefer` asks a Kerberos library that looks names up and waits for its network.
        if given["gssencmode"] == nil, values["gssencmode"] != "require" { values["gssencmode"] = "disable" }
        values["client_encoding"] = "UTF8"
        try examineCertificates(values)
        entries = try hostEntries(values)
        for key in ["host", "hostaddr", "port", "service"] { values[key] = nil }
        self.values = values
    }

    /// The first host: a name, an address, or a socket directory.
    public var host: String { entries.first.flatMap { $0.host ?? $0.address } ?? "" }
    /// All hosts, in the order they are tried.
    public var hosts: [String] { entries.map { $0.host ?? $0.address ?? "" } }
    /// The first host's port.
    public var port: UInt16 { entries.first?.port ?? 5432 }
    /// The database; PostgreSQL's default is the user's name.
    public var database: String { values["dbname"] ?? user }
    /// Whether it is the same database on the same hosts, in whatever order they are tried. Other credentials do not
    /// matter.
    public func isSamePlace(as other: ConnectionSettings) -> Bool {
        func places(_ settings: ConnectionSettings) -> Set<String> {
            Set(settings.entries.map { "\($0.host ?? "") \($0.address ?? "") \($0.port)" })
        }
        return database == other.database && places(self) == places(other)
    }

    /// The role; libpq's default is the operating system's user. Empty when that has no name and none was given.
    public var user: String { values["user"] ?? "" }
    /// Keeps libpq from reading the service file again at each attempt. For a process that has read its settings.
    /// This changes the environment, so no other thread may read or write it at that time.
    public static func leaveServiceFile() { unsetenv("PGSERVICE") }

    /// `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`.
    public var sslmode: String { values["sslmode"] ?? "prefer" }

    /// `user@host:port,host2:port/database`: everything that a log needs, and no secret.
    public var description: String {
        (user.isEmpty ? "" : "\(user)@") + entries.map(\.description).joined(separator: ",") + "/\(database)"
    }
    public var debugDescription: String { description }
    /// Hides the values from dump() and from test failures, which look past `description`.
    public var customMirror: Mirror { Mirror(self, children: ["description": description]) }
}

/// A connection string that cannot be used, and why. The words contain nothing from the string.
public struct SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One line.
    public let reason: String
    public var description: String { "cannot use the database connection settings: \(reason)" }
}
