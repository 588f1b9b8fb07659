// libpq's parser and its merging of defaults, with errors that hold no secrets. libpq's error texts quote what they
// cannot read, up to the whole URL with the password, in any language. So they are only recognised, and never passed
// on.

import CLibPQ
import Glibc

/// The keywords in a connection string. PQconninfoParse takes both forms; empty gives none.
func parseConninfo(_ conninfo: String) throws(SettingsError) -> [String: String] {
    guard !conninfo.utf8.contains(0) else { throw SettingsError(reason: "it contains a NUL character") }
    try refuseStrayAt(conninfo)
    var message: UnsafeMutablePointer<CChar>?
    let options = PQconninfoParse(conninfo, &message)
    defer { PQfreemem(message) }
    guard let options else {
        throw SettingsError(reason: settingsReason(message.map { String(cString: $0) } ?? ""))
    }
    defer { PQconninfoFree(options) }
    return try optionValues(options)
}

/// Refuses a URL with an '@' in the wrong place. libpq would take "me:p@ss@host" for a host "ss@host" and
/// "me:12/ss@host/db" for a database "ss@host/db". Half of the password would be shown wherever the host or the
/// database is shown.
private func refuseStrayAt(_ conninfo: String) throws(SettingsError) {
    // Byte by byte, as libpq does. As Characters, an '@' with a combining accent behind it would not be found.
    let bytes = conninfo.utf8
    guard let scheme = ["postgresql://", "postgres://"].first(where: { bytes.starts(with: $0.utf8) }) else { return }
    let rest = bytes.dropFirst(scheme.utf8.count)
    // "h:5432?password=p@ss" has the host "ss" for libpq, as it looks for an '@' up to the first '/'; and where a
    // password holds all of '/', '?' and '=', as in "me:12/ss?options=9@host/db", the parameters are its end and the
    // host.
    guard !hasAtInParameters(conninfo) else {
        throw SettingsError(reason: "a '@' in the URL's parameters must be written %40 (and a '?' in a password %3F)")
    }
    let parts = rest.prefix { $0 != UInt8(ascii: "?") }.split(
        separator: UInt8(ascii: "@"), maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count < 2 || !parts[0].contains(UInt8(ascii: "/")) && !parts[1].contains(UInt8(ascii: "@")) else {
        throw SettingsError(reason: "a '@' or '/' in the URL's user or password must be written %40 or %2F")
    }
}

/// Whether a URL has an unescaped '@' in the value of a parameter, or in what looks like one.
public func hasAtInParameters(_ url: String) -> Bool {
    url.utf8.drop { $0 != UInt8(ascii: "?") }.drop { $0 != UInt8(ascii: "=") }.contains(UInt8(ascii: "@"))
}

/// Merges what was given with the service file, the PG* environment and the defaults.
///
/// In libpq only a connection attempt does all of that, including a service file named in the string. So this starts
/// one that libpq itself refuses after the merging and before the first network call: one value is not valid. There
/// are two probes with different invalid values, because the invalid value cannot be read back.
func completeConninfo(_ given: [String: String]) throws(SettingsError) -> [String: String] {
    for value in given.values where value.utf8.contains(0) {
        throw SettingsError(reason: "a value contains a NUL character")
    }
    var values = try probe(given, spoiled: "gssencmode").values
    values["gssencmode"] = try probe(given, spoiled: "sslmode").values["gssencmode"]
    return values
}

/// The socket directory that libpq was built with.
func defaultSocketDirectory() throws(SettingsError) -> String {
    // An empty entry in a list means the default, whatever PGHOST says.
    // Any user will do, and libpq looks for one where none is given: a user id need not have a name.
    try probe(["host": ",", "hostaddr": "", "port": "5432", "user": "any"], spoiled: "gssencmode").host
}

private func probe(
    _ given: [String: String], spoiled: String
) throws(SettingsError) -> (values: [String: String], host: String) {
    let spoil = "refused-on-purpose"
    let pairs = Array(given.merging([spoiled: spoil]) { $1 })
    let probe = withCStrings(pairs.map { $0.key }) { keywords in
        withCStrings(pairs.map { $0.value }) { PQconnectStartParams(keywords, $0, 0) }
    }
    guard let probe else { throw SettingsError(reason: "out of memory") }
    defer { PQfinish(probe) }
    let message = String(cString: PQerrorMessage(probe))
    guard message.contains(spoil), message.contains(spoiled) else {
        throw SettingsError(reason: settingsReason(message))
    }
    guard let options = PQconninfo(probe) else { throw SettingsError(reason: "out of memory") }
    defer { PQconninfoFree(options) }
    return (try optionValues(options), PQhost(probe).map { String(cString: $0) } ?? "")
}

private func optionValues(
    _ options: UnsafeMutablePointer<PQconninfoOption>
) throws(SettingsError) -> [String: String] {
    var values: [String: String] = [:]
    var option = options
    while let keyword = option.pointee.keyword {
        if let value = option.pointee.val, value.pointee != 0 {
            // Repaired text would hold a wrong password, and only the server would notice.
            guard let text = String(validatingCString: value) else {
                throw SettingsError(reason: "a value is not UTF-8, as it stands or once its %XX are decoded")
            }
            values[String(cString: keyword)] = text
        }
        option += 1
    }
    return values
}

/// The host list as libpq splits it: addresses pair with hosts, and a single port holds for all.
func hostEntries(_ values: [String: String]) throws(SettingsError) -> [ConnectionSettings.Entry] {
    func list(_ key: String) -> [String] {
        values[key].map { $0.unicodeScalars.split(separator: ",", omittingEmptySubsequences: false).map { String($0) } }
            ?? []
    }
    let hosts = list("host")
    let addresses = list("hostaddr")
    let ports = list("port")
    let count = max(hosts.count, addresses.count, 1)
    var entries: [ConnectionSettings.Entry] = []
    for index in 0..<count {
        let portText = ports.count == 1 ? ports[0] : index < ports.count ? ports[index] : ""
        guard let port = portText.isEmpty ? 5432 : UInt16(portText), port > 0 else {
            throw SettingsError(reason: "a port is not a number from 1 to 65535")
        }
        let address = index < addresses.count && !addresses[index].isEmpty ? addresses[index] : nil
        if let address, numericAddress(address) == nil {
            throw SettingsError(
                reason: "hostaddr (PGHOSTADDR) must hold numeric addresses: write a host name into host")
        }
        var host = index < hosts.count && !hosts[index].isEmpty ? hosts[index] : nil
        if host == nil, address == nil { host = try defaultSocketDirectory() }
        entries.append(ConnectionSettings.Entry(host: host, address: address, port: port))
    }
    return values["load_balance_hosts"] == "random" ? entries.shuffled() : entries
}

/// Our own words for libpq's complaint. If it is not recognised, the reason is left out.
private func settingsReason(_ message: String) -> String {
    let known: [(part: String, reason: String)] = [
        ("invalid URI query parameter", "the URL has a query parameter that libpq does not know"),
        ("extra key/value separator", "a query parameter of the URL has more than one '='"),
        ("missing key/value separator", "a query parameter of the URL has no '='"),
        ("percent-encoded", "the URL has a '%' that starts no valid percent-encoded character (write %25)"),
        ("IPv6 host address may not be empty", "the URL has an empty IPv6 address"),
        ("end of string reached when looking for matching", "the URL has an IPv6 address without its closing ']'"),
        ("unexpected character", "the URL has an unexpected character after its host (one to percent-encode?)"),
        ("missing \"=\"", "a keyword has no '=' after it (a value with blanks needs single quotes)"),
        ("unterminated quoted string", "a quoted value is not closed"),
        ("invalid connection option", "it has a keyword that libpq does not know"),
        ("could not match", "the number of ports or addresses differs from the number of hosts"),
        ("invalid sslmode value", "sslmode has a value that libpq does not know"),
        ("sslmode value", "this libpq does not support its sslmode"),
        ("invalid channel_binding value", "channel_binding has a value that libpq does not know"),
        ("invalid gssencmode value", "gssencmode has a value that libpq does not know"),
        ("invalid require_auth", "require_auth has a value that libpq does not know"),
        ("definition of service", "the service it names is not in any service file"),
        ("service file", "the service file cannot be read or has a syntax error"),
        ("out of memory", "out of memory"),
    ]
    return known.first { message.contains($0.part) }?.reason ?? "libpq does not accept it"
}
