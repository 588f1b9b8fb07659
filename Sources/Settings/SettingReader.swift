// Reads settings by the table: from the option, else from the variable, else the default.

import Text

/// The values given to one command: options first, then the environment.
package struct SettingReader {
    /// Values by the option's name without dashes; a switch that is there has "true".
    private let options: [String: String]
    package let environment: Environment

    package init(options: [String: String], environment: Environment) {
        self.options = options
        self.environment = environment
    }

    /// The value of a setting.
    /// - Throws: `Failure` with exit code 78 and one line that names the option or variable.
    package func value<Value>(_ path: KeyPath<SettingsTable, Setting<Value>>) throws -> Value {
        let setting = SettingsTable.shared[keyPath: path]
        let row = setting.row
        if let text = options[row.name] { return try setting.read(GivenText(value: text, origin: row.option)) }
        if let text = environment[row.variable] {
            return try setting.read(GivenText(value: text, origin: row.variable))
        }
        return try setting.absent()
    }

    /// The database of the lease.
    /// - Throws: `Failure` with exit code 78 and what to do.
    package func database() throws -> DatabaseSource {
        let table = SettingsTable.shared
        return try DatabaseSource.find(
            option: options[table.databaseURL.row.name], file: options[table.databaseURLFile.row.name],
            environment: environment)
    }
}
