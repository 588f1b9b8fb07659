// The environment as the settings see it. An empty variable counts as not set: that is how container tools unset one.

import CLinux

/// Variables by name.
package struct Environment {
    private let values: [String: String]

    /// This process's environment.
    package static var current: Environment {
        var values: [String: String] = [:]
        guard var entry = clinux_environment() else { return Environment([:]) }
        while let variable = entry.pointee {
            let text = String(cString: variable)
            // Split scalar by scalar. As Characters, a '=' with a combining accent behind it would not be found.
            let scalars = text.unicodeScalars
            if let split = scalars.firstIndex(of: "=") {
                values[String(scalars[..<split])] = String(scalars[scalars.index(after: split)...])
            }
            entry += 1
        }
        return Environment(values)
    }

    package init(_ values: [String: String]) { self.values = values }

    /// The names of all variables that are not empty.
    var names: [String] { values.filter { !$0.value.isEmpty }.map(\.key) }

    /// The value, unless it is absent or empty.
    package subscript(name: String) -> String? {
        guard let value = values[name], !value.isEmpty else { return nil }
        return value
    }
}
