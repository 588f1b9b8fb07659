// Turns Airflow's database URL, as SQLAlchemy reads it, into one that libpq reads: without the driver, with Python
// drivers' parameters left out or translated, and with SQLAlchemy's way to name several hosts.

import Postgres

/// Translates SQLAlchemy URLs.
enum SQLAlchemyURL {
    enum Problem: Error, Equatable {
        /// Another database; its name.
        case otherDatabase(String)
        case noURL
    }

    /// Parameters that libpq does not know, and what becomes of them: a libpq name, or nothing.
    private static let translated: [String: String?] = [
        "ssl": "sslmode", "async_fallback": nil, "prepared_statement_cache_size": nil, "server_settings": nil,
        "command_timeout": nil, "statement_cache_size": nil, "timeout": nil, "prepared_statement_name_func": nil,
        "executemany_mode": nil, "prepare_threshold": nil, "ssl_context": nil, "autocommit": nil, "cursor_factory": nil,
        "connection_factory": nil, "options": nil,
        "application_name": nil, "max_cached_statement_lifetime": nil, "keepalives": "keepalives",
    ]

    /// The same database as a libpq URI.
    static func libpq(_ url: String) throws(Problem) -> String {
        guard let (scheme, rest) = cut(url, at: "://") else { throw .noURL }
        let dialect = scheme.split(separator: "+", omittingEmptySubsequences: false).first.map(String.init) ?? ""
        guard dialect == "postgresql" || dialect == "postgres" else { throw .otherDatabase(dialect) }
        // Whatever reads the result refuses an '@' in the wrong place, so none may be dropped here.
        guard !hasAtInParameters(rest), let (address, query) = cut(rest, at: "?") else { return "postgresql://\(rest)" }
        var hosts: [String] = []
        var ports: [String] = []
        var kept: [String] = []
        for pair in query.unicodeScalars.split(separator: "&").map(String.init) {
            let (name, value) = cut(pair, at: "=") ?? (pair, "")
            if name == "host" {
                // SQLAlchemy writes several hosts as several parameters, each with its port behind a colon.
                for one in value.split(separator: ",").map(String.init) {
                    let (host, port) = hostAndPort(one)
                    hosts.append(host)
                    ports.append(port)
                }
            } else if let known = translated[name] {
                guard let to = known else { continue }
                kept.append("\(to)=\(name == "ssl" ? sslMode(value) : value)")
            } else {
                kept.append(pair)
            }
        }
        if !hosts.isEmpty {
            kept.append("host=\(hosts.joined(separator: ","))")
            if ports.contains(where: { !$0.isEmpty }) { kept.append("port=\(ports.joined(separator: ","))") }
        }
        return "postgresql://\(address)" + (kept.isEmpty ? "" : "?" + kept.joined(separator: "&"))
    }

    /// asyncpg also accepts booleans.
    private static func sslMode(_ value: String) -> String {
        switch value.lowercased() {
        case "true", "1": "require"
        case "false", "0": "disable"
        default: value
        }
    }

    private static func hostAndPort(_ text: String) -> (String, String) {
        // A path or an IPv6 address in brackets may hold colons of its own.
        guard !text.hasPrefix("/"), !text.hasPrefix("%2F"), !text.hasPrefix("%2f"), let colon = text.lastIndex(of: ":"),
            text[text.index(after: colon)...].utf8.allSatisfy({ (48...57).contains($0) })
        else { return (text, "") }
        return (String(text[..<colon]), String(text[text.index(after: colon)...]))
    }

    private static func cut(_ text: String, at separator: String) -> (String, String)? {
        // Split scalar by scalar. As Characters, a separator with a combining accent behind it would not be found.
        guard let range = text.unicodeScalars.firstRange(of: separator.unicodeScalars) else { return nil }
        return (String(text[..<range.lowerBound]), String(text[range.upperBound...]))
    }
}
