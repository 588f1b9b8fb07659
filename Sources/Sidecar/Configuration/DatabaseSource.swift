// Where the lease lives when nobody says: our own setting, else libpq's PG* variables, else the database that Airflow
// itself is configured with. So that around Airflow no setting of our own is needed.

import Postgres

/// A database and the setting that named it, for messages.
struct DatabaseSource {
    let settings: ConnectionSettings
    /// For example `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`.
    let origin: String
    /// Airflow's own setting where one of libpq's variables went before it: if it names another database, a sidecar without
    /// that variable leads there.
    var passedOver: String?
    /// It is the setting that Airflow itself connects with.
    var isAirflows: Bool { origin.hasPrefix("AIRFLOW__") }

    /// What to know when a setting was passed over, or a password file cannot be used.
    var caution: String? {
        let parts = [settings.passwordFileProblem, precedence].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }

    private var precedence: String? {
        passedOver.map {
            "\(origin) goes before \($0): if that is another database, a sidecar without \(origin) leads there at the same time; "
                + "give all of them the same SIDECAR_DATABASE_URL"
        }
    }

    private static let airflowNames = ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN"]
    private static let libpqNames = ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"]

    /// Finds the database. `option` is the value of `--database-url`.
    /// - Throws: `Failure` with exit code 78 and what to do.
    static func find(option: String?, environment: Environment) throws -> DatabaseSource {
        if let option {
            guard !option.trimming().isEmpty else {
                throw Failure.configuration("--database-url is empty: leave it out, or give it a URL")
            }
            return try from(option.trimming(), origin: "--database-url")
        }
        if let url = environment["SIDECAR_DATABASE_URL"] {
            // Of blanks only, as from an empty file: libpq would take them for its defaults, and lead somewhere else.
            guard !url.trimming().isEmpty else {
                throw Failure.configuration("SIDECAR_DATABASE_URL is blank: unset it, or give it a URL")
            }
            return try from(url.trimming(), origin: "SIDECAR_DATABASE_URL")
        }
        if let name = libpqNames.first(where: { environment[$0] != nil }) {
            var source = try from(nil, origin: name)
            source.passedOver = airflowNames.flatMap { [$0, $0 + "_CMD"] }.first { environment[$0] != nil }
            return source
        }
        for name in airflowNames {
            if let url = environment[name] { return try fromAirflow(url.trimming(), origin: name) }
            if let command = environment[name + "_CMD"] {
                return try fromAirflow(try output(of: command, origin: name + "_CMD"), origin: name + "_CMD")
            }
            if environment[name + "_SECRET"] != nil {
                throw Failure.configuration(
                    "\(name)_SECRET names a secret that only Airflow can read: give the database to --database-url or "
                        + "SIDECAR_DATABASE_URL")
            }
        }
        throw Failure.configuration(
            "no database given: set --database-url, SIDECAR_DATABASE_URL, libpq's PGHOST and friends, or Airflow's "
                + "\(airflowNames[0]) (airflow.cfg is not read)")
    }

    private static func from(_ url: String?, origin: String) throws -> DatabaseSource {
        // A SQLAlchemy URL in our own setting is understood, too: people copy it from Airflow.
        if let url, let scheme = url.unicodeScalars.firstRange(of: "://".unicodeScalars).map({ url[..<$0.lowerBound] }),
            scheme != "postgresql", scheme != "postgres", !scheme.contains("="), !scheme.contains(" ")
        {
            return try fromAirflow(url, origin: origin)
        }
        return try connect(url, origin: origin)
    }

    private static func fromAirflow(_ url: String, origin: String) throws -> DatabaseSource {
        let translated: String
        do {
            translated = try SQLAlchemyURL.libpq(url)
        } catch .otherDatabase(let name) {
            // Only a plain word is repeated: a broken URL may start with anything, a password included.
            let shown = name.count <= 12 && name.utf8.allSatisfy { (97...122).contains($0) } ? name : "another database"
            throw Failure.configuration(
                "\(origin) points to \(shown), and the lease needs PostgreSQL: give it a PostgreSQL of its own with "
                    + "--database-url or SIDECAR_DATABASE_URL")
        } catch {
            throw Failure.configuration(
                "\(origin) holds no database URL (dialect://...): correct it, or use --database-url")
        }
        return try connect(translated, origin: origin)
    }

    private static func connect(_ conninfo: String?, origin: String) throws -> DatabaseSource {
        if let conninfo, conninfo.unicodeScalars.contains(where: \.breaksLine) {
            throw Failure.configuration("the database URL in \(origin) has more than one line, or control characters")
        }
        // What was not UTF-8 has been repaired: another password would be sent.
        if let conninfo, conninfo.unicodeScalars.contains("\u{FFFD}") {
            throw Failure.configuration("the database URL in \(origin) is not UTF-8: write its bytes as %XX")
        }
        let settings: ConnectionSettings
        do {
            settings = try ConnectionSettings(conninfo)
        } catch {
            throw Failure.configuration("cannot use the database URL in \(origin): \(error)")
        }
        // These are shown in logs and errors. What got into them by a slip of the pen may be a password.
        if let slip = slip(settings) {
            throw Failure.configuration(
                "\(slip) in \(origin) (or libpq's own variables) looks like part of a URL or a password: check for a "
                    + "missing or misplaced '@', ':', '?' or '/', and write special characters as %XX")
        }
        return DatabaseSource(settings: settings, origin: origin)
    }

    /// Which of the parts that are shown holds something that does not belong there.
    private static func slip(_ settings: ConnectionSettings) -> String? {
        // Looked at as libpq does, which knows no accents: an '@' with one behind it is an '@'.
        func odd(_ text: String, _ characters: String) -> Bool {
            let scalars = text.unicodeScalars
            return scalars.contains { characters.unicodeScalars.contains($0) || $0.breaksLine }
                || scalars.firstRange(of: "://".unicodeScalars) != nil || Redaction.withoutSecrets(text) != text
        }
        // One abstract socket is a place; one among other hosts is an '@' and a ',' that belonged to a password.
        if settings.hosts.count > 1, settings.hosts.contains(where: { $0.utf8.first == UInt8(ascii: "@") }) {
            return "the host"
        }
        for host in settings.hosts where odd(String(host.unicodeScalars.drop { $0 == "@" }), "@?&;") {
            return "the host"
        }
        if odd(settings.user, ":") { return "the user" }
        return odd(settings.database, ":@&;") ? "the database's name" : nil
    }

    /// What Airflow would read from its `..._CMD` setting.
    private static func output(of command: String, origin: String) throws -> String {
        guard let words = ShellWords.split(command), !words.isEmpty else {
            throw Failure.configuration("\(origin) is not a command line: an open quote, or nothing in it")
        }
        switch Subprocess.output(of: words, limit: .seconds(30)) {
        case .success(let text):
            let url = text.trimming()
            guard !url.isEmpty else { throw Failure.configuration("the command in \(origin) printed nothing") }
            return url
        case .failure(let problem): throw Failure.configuration("the command in \(origin) \(problem.reason)")
        }
    }
}

extension Unicode.Scalar {
    /// A control character, or what ends a line somewhere: not for what is shown or connected to.
    var breaksLine: Bool { properties.generalCategory == .control || Character(self).isNewline }
}

extension String {
    /// Without white space at both ends.
    func trimming() -> String {
        var view = self[...]
        while let first = view.first, first.isWhitespace { view.removeFirst() }
        while let last = view.last, last.isWhitespace { view.removeLast() }
        return String(view)
    }
}
