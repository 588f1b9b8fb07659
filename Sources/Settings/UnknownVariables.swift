// Finds SIDECAR_ variables that no setting reads. Otherwise a typing error in a name would leave the default in force
// without a word.

import Text

/// The search for variables that are not in the table.
package enum UnknownVariables {
    /// What a sidecar gives its child besides variables of the table; a sidecar inside that child inherits it.
    private static let givenToChild: Set = ["SIDECAR_EPOCH", "SIDECAR_INSTANCE"]

    /// One line for each variable that is not known, sorted by name. No value is in it.
    package static func warnings(_ environment: Environment) -> [String] {
        let known = SettingsTable.rows.map(\.variable)
        return environment.names.filter { name in
            name.hasPrefix(SettingRow.prefix) && !known.contains(name) && !givenToChild.contains(name)
                && !isOfService(name, value: environment[name] ?? "")
        }.sorted().map { name in
            // A value may have got into the name, and it may be a secret.
            guard !Redaction.mayHoldSecret(name) else {
                return
                    "a variable that begins with \(SettingRow.prefix) is unknown and has no effect (its name is not repeated, as "
                    + "it may hold a password)"
            }
            let advice = nearest(name, known).map { "did you mean \($0)?" } ?? "see `sidecar run --help`"
            return "the variable \(oneLine(name, longest: 100)) is unknown and has no effect; \(advice)"
        }
    }

    /// Whether Kubernetes sets it in every pod because of a Service named sidecar or sidecar-...: NAME_SERVICE_HOST,
    /// NAME_SERVICE_PORT, NAME_SERVICE_PORT_HTTP, NAME_PORT=tcp://..., NAME_PORT_5432_TCP, NAME_PORT_5432_TCP_ADDR.
    private static func isOfService(_ name: String, value: String) -> Bool {
        if name.hasSuffix("_SERVICE_HOST") || name.hasSuffix("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
            return true
        }
        let protocols = ["TCP", "UDP", "SCTP"]
        if name.hasSuffix("_PORT") && protocols.contains(where: { value.hasPrefix("\($0.lowercased())://") }) {
            return true
        }
        let words = name.split(separator: "_")
        return words.indices.dropFirst(2).contains { index in
            words[index - 2] == "PORT" && UInt16(words[index - 1]) != nil && protocols.contains(String(words[index]))
        }
    }

    /// The known name with the fewest differences, or with one word more or less at its end; nil if none is close.
    private static func nearest(_ name: String, _ known: [String]) -> String? {
        let word = Array(name.unicodeScalars.dropFirst(SettingRow.prefix.count))
        // In a short name, a different letter soon makes another name. A very long name is no variable of ours.
        guard word.count <= 100 else { return nil }
        let limit = max(1, min(3, word.count / 3))
        let near = known.map { candidate in
            (
                name: candidate,
                slips: Spelling.slips(word, Array(candidate.unicodeScalars.dropFirst(SettingRow.prefix.count)))
            )
        }.filter { $0.slips <= limit }.min { $0.slips < $1.slips }?.name
        return near ?? known.first { $0.hasPrefix(name + "_") || name.hasPrefix($0 + "_") }
    }
}
