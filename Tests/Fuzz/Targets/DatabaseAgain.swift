// What the `database` targets need to see inside settings: the password that is kept, and whether settings written as
// keywords, each value quoted, read as the same settings.

@testable import Postgres

extension ConnectionSettings {
    /// The password's bytes; nobody else gets to see them.
    var keptPassword: [UInt8] { Array((values["password"] ?? "").utf8) }
}

/// Demands that the settings, written down, are read as the same.
func demandSameAgain(_ settings: ConnectionSettings) {
    func list(_ part: (ConnectionSettings.Entry) -> String?) -> String {
        settings.entries.map { part($0) ?? "" }.joined(separator: ",")
    }
    var values = settings.values
    values["host"] = list(\.host)
    values["hostaddr"] = settings.entries.contains { $0.address != nil } ? list(\.address) : nil
    values["port"] = list { String($0.port) }
    let conninfo = values.map { key, value in
        "\(key)='" + value.unicodeScalars.map { $0 == "'" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "'"
    }.joined(separator: " ")
    // The order of hosts may be drawn by lot.
    func sorted(_ entries: [ConnectionSettings.Entry]) -> [String] { entries.map { "\($0)" }.sorted() }
    do {
        let again = try ConnectionSettings(conninfo)
        demand(again.values == settings.values, "the same values again: \(settings.values) and \(again.values)")
        demand(sorted(again.entries) == sorted(settings.entries), "the same hosts again: \(settings) and \(again)")
    } catch {
        demand(false, "accepted once is accepted again: \(conninfo): \(error)")
    }
}
