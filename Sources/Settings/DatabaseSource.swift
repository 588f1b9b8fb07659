// Finds the database of the lease: by our own settings, else by libpq's PG* variables, else in the setting that
// Airflow itself uses. So with Airflow no setting of our own is needed.

import Helpers
import Postgres
import Text

/// A database and the setting that named it, for messages.
package struct DatabaseSource: Sendable {
    /// What can provide other credentials while the sidecar runs. The value of a variable or an option cannot change.
    package enum Renewal: Equatable, Sendable {
        case none
        /// Read before each connect.
        case file(DatabaseURLFile)
        /// Run again after a refused login: a `..._CMD` setting of Airflow's.
        case command
    }

    package let settings: ConnectionSettings
    /// For example `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`.
    package let origin: String
    package var renewal = Renewal.none
    /// `PGSERVICE` at the start. It is removed from the environment later.
    var service: String?
    /// Airflow's own setting, if one of libpq's variables took precedence over it. If it names another database, a
    /// sidecar without that variable leads there.
    var passedOver: String?
    /// Whether it is the setting that Airflow itself connects with.
    package var isAirflows: Bool { origin.hasPrefix("AIRFLOW__") }

    /// A warning if a setting was passed over, or if a password file cannot be used.
    package var caution: String? {
        let parts = [settings.passwordFileProblem, precedence].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }

    private var precedence: String? {
        passedOver.map {
            "\(origin) takes precedence over \($0): if they name different databases, a sidecar without \(origin) leads at the same "
                + "time in the other database; give all sidecars the same SIDECAR_DATABASE_URL"
        }
    }

    private static let airflowNames = ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN"]
    private static let libpqNames = ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"]

    private static let urlRow = SettingsTable.shared.databaseURL.row
    private static let fileRow = SettingsTable.shared.databaseURLFile.row

    /// Finds the database. `option` is the value of `--database-url`, `file` that of `--database-url-file`.
    /// - Throws: `Failure` with exit code 78 and what to do.
    package static func find(option: String?, file: String? = nil, environment: Environment) throws -> DatabaseSource {
        if option != nil, file != nil { throw contradiction(urlRow.option, fileRow.option) }
        if let option {
            guard !option.trimming().isEmpty else {
                throw Failure.configuration("\(urlRow.option) is empty: leave it out, or give it a URL")
            }
            return try from(option.trimming(), origin: urlRow.option)
        }
        if let file { return try fromFile(file, origin: fileRow.option, environment) }
        if let path = environment[fileRow.variable] {
            guard environment[urlRow.variable] == nil else {
                throw contradiction(urlRow.variable, fileRow.variable)
            }
            return try fromFile(path, origin: fileRow.variable, environment)
        }
        if let url = environment[urlRow.variable] {
            // Blanks only, as from an empty file. libpq would use its defaults, and the sidecar would lead in another
            // database.
            guard !url.trimming().isEmpty else {
                throw Failure.configuration("\(urlRow.variable) is blank: unset it, or give it a URL")
            }
            return try from(url.trimming(), origin: urlRow.variable)
        }
        if let name = libpqNames.first(where: { environment[$0] != nil }) {
            var source = try from(nil, origin: name)
            source.passedOver = airflowNames.flatMap { [$0, $0 + "_CMD"] }.first { environment[$0] != nil }
            return source
        }
        for name in airflowNames {
            if let url = environment[name] { return try fromAirflow(url.trimming(), origin: name) }
            if let command = environment[name + "_CMD"] {
                var source = try fromAirflow(
                    try output(of: command, origin: name + "_CMD", HelperPrograms()), origin: name + "_CMD")
                source.renewal = .command
                return source
            }
            if environment[name + "_SECRET"] != nil {
                throw Failure.configuration(
                    "\(name)_SECRET names a secret that only Airflow can read: set --database-url or SIDECAR_DATABASE_URL to the "
                        + "URL of the database")
            }
        }
        throw Failure.configuration(
            "no database given: set --database-url, SIDECAR_DATABASE_URL, SIDECAR_DATABASE_URL_FILE, libpq's variables such as PGHOST, or Airflow's "
                + "\(airflowNames[0]) (airflow.cfg is not read)")
    }

    private static func contradiction(_ url: String, _ file: String) -> Failure {
        .configuration("\(url) and \(file) contradict each other: give only one of them")
    }

    private static func fromFile(_ path: String, origin: String, _ environment: Environment) throws -> DatabaseSource {
        let file = DatabaseURLFile(path: path, origin: origin)
        guard !path.isEmpty else {
            throw Failure.configuration(
                "\(origin) is empty: leave it out, or name the file that holds the database URL")
        }
        let service = environment["PGSERVICE"]
        let limit = Duration.seconds(10)
        let reading = try SourceReading { readAgain(.file(file), origin: origin, service: service, HelperPrograms()) }
        guard let answer = reading.wait(limit: limit) else {
            throw file.problem("cannot be read within \(Durations.text(limit)): its file system does not answer")
        }
        return DatabaseSource(settings: try answer.get(), origin: origin, renewal: .file(file), service: service)
    }

    /// Starts to read the source again; nil if that cannot change anything.
    package func startReading(_ helpers: HelperPrograms) throws -> SourceReading? {
        guard renewal != .none else { return nil }
        return try SourceReading { [self] in
            Self.readAgain(renewal, origin: origin, service: service, helpers).flatMap { new in
                // Two databases are two leases. A sidecar that moved alone would lead beside the others.
                guard new.isSamePlace(as: settings) else {
                    return .failure(
                        .configuration(
                            "\(origin) now names another database, \(Redaction.withoutSecrets(new.description)): a running "
                                + "sidecar stays with \(settings.description). To move the lease, stop all its sidecars first"
                        ))
                }
                return .success(new)
            }
        }
    }

    /// Reads the file or runs the command, for as long as it takes.
    private static func readAgain(
        _ renewal: Renewal, origin: String, service: String?, _ helpers: HelperPrograms
    ) -> SourceReading.Answer {
        do {
            switch renewal {
            case .none: return .failure(.configuration("\(origin) cannot be read again"))
            case .file(let file): return .success(try from(try file.read(), origin: origin, service: service).settings)
            case .command:
                let command = Environment.current[origin] ?? ""
                let url = try output(of: command, origin: origin, helpers)
                return .success(try fromAirflow(url, origin: origin).settings)
            }
        } catch let failure as Failure {
            return .failure(failure)
        } catch {
            return .failure(.configuration("cannot read \(origin) again: \(error)"))
        }
    }

    private static func from(_ url: String?, origin: String, service: String? = nil) throws -> DatabaseSource {
        // A SQLAlchemy URL is accepted in our own setting, too, because people copy it from Airflow.
        if let url, let scheme = url.unicodeScalars.firstRange(of: "://".unicodeScalars).map({ url[..<$0.lowerBound] }),
            scheme != "postgresql", scheme != "postgres", !scheme.contains("="), !scheme.contains(" ")
        {
            return try fromAirflow(url, origin: origin, service: service)
        }
        return try connect(url, origin: origin, service: service)
    }

    private static func fromAirflow(
        _ url: String, origin: String, service: String? = nil
    ) throws -> DatabaseSource {
        let translated: String
        do {
            translated = try SQLAlchemyURL.libpq(url)
        } catch .otherDatabase(let name) {
            // Only a plain word is repeated, because a broken URL may start with anything, including a password.
            let shown = name.count <= 12 && name.utf8.allSatisfy { (97...122).contains($0) } ? name : "another database"
            throw Failure.configuration(
                "\(origin) points to \(shown), but the lease needs PostgreSQL: name a PostgreSQL database with --database-url or "
                    + "SIDECAR_DATABASE_URL")
        } catch {
            throw Failure.configuration(
                "\(origin) holds no database URL (dialect://...): correct it, or use --database-url")
        }
        return try connect(translated, origin: origin, service: service)
    }

    private static func connect(_ conninfo: String?, origin: String, service: String? = nil) throws -> DatabaseSource {
        if let conninfo, conninfo.unicodeScalars.contains(where: \.breaksLine) {
            throw Failure.configuration(
                "the database URL in \(origin) has several lines or control characters: write it on one line")
        }
        // Invalid UTF-8 has been replaced by this character, so a wrong password would be sent.
        if let conninfo, conninfo.unicodeScalars.contains("\u{FFFD}") {
            throw Failure.configuration("the database URL in \(origin) is not UTF-8: write special characters as %XX")
        }
        let settings: ConnectionSettings
        do {
            settings = try ConnectionSettings(conninfo, service: service)
        } catch {
            throw Failure.configuration("cannot use the database URL in \(origin): \(error)")
        }
        // These parts are shown in logs and errors. A typing error may have put a password into one of them.
        if let slip = slip(settings) {
            throw Failure.configuration(
                "\(slip) in \(origin) (or libpq's own variables) looks like part of a URL or a password: check for a "
                    + "missing or misplaced '@', ':', '?' or '/', and write special characters as %XX")
        }
        return DatabaseSource(settings: settings, origin: origin)
    }

    /// The part among those shown that looks wrong; nil if none does.
    private static func slip(_ settings: ConnectionSettings) -> String? {
        // Compared scalar by scalar, as libpq does: an '@' with a combining accent behind it is an '@'.
        func odd(_ text: String, _ characters: String) -> Bool {
            let scalars = text.unicodeScalars
            return scalars.contains { characters.unicodeScalars.contains($0) || $0.breaksLine }
                || scalars.firstRange(of: "://".unicodeScalars) != nil || Redaction.withoutSecrets(text) != text
        }
        // A single abstract socket is a place. One among other hosts is an '@' and a ',' that belonged to a password.
        if settings.hosts.count > 1, settings.hosts.contains(where: { $0.utf8.first == UInt8(ascii: "@") }) {
            return "the host"
        }
        for host in settings.hosts where odd(String(host.unicodeScalars.drop { $0 == "@" }), "@?&;") {
            return "the host"
        }
        if odd(settings.user, ":") { return "the user" }
        return odd(settings.database, ":@&;") ? "the database's name" : nil
    }

    /// How long a `..._CMD` may take.
    static let commandLimit = Duration.seconds(30)

    /// What Airflow would read from its `..._CMD` setting: the URL that its command prints.
    private static func output(of command: String, origin: String, _ helpers: HelperPrograms) throws -> String {
        guard let words = ShellWords.split(command), !words.isEmpty else {
            throw Failure.configuration(
                "\(origin) is not a valid command line: a quote is not closed, or there is no command")
        }
        let result = helpers.run(HelperProgram(words, timeLimit: commandLimit))
        if let problem = result.problem { throw Failure.configuration("the command in \(origin) \(problem)") }
        // Repaired, a password would become another one.
        guard let text = String(validating: result.output, as: UTF8.self) else {
            throw Failure.configuration(
                "the command in \(origin) printed text that is not valid UTF-8: it must print the database URL")
        }
        let url = text.trimming()
        guard !url.isEmpty else {
            throw Failure.configuration("the command in \(origin) printed nothing: it must print the database URL")
        }
        return url
    }
}
