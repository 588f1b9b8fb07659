// One row of the table of settings: everything that the option parser, the help, the variables and the page about
// configuration need to know about a setting. SettingsTable.swift holds the rows.

import Text

/// A heading under which help and page show settings.
package enum SettingGroup: String, CaseIterable, Sendable {
    case database = "Database"
    case lease = "Lease and timing"
    case child = "Child"
    case readiness = "Readiness"
    case log = "Log"
}

/// A command that takes settings of the table as options. `run` takes them all.
package enum SettingUser: String, CaseIterable, Sendable {
    case run
    case check
    case lease
    case migrate
    case probe
}

/// What holds if no value is given.
package enum SettingDefault: Sendable {
    /// This text, read like a given one.
    case text(String)
    /// No value that could be given. The words say what happens instead.
    case words(String)
    /// Nothing: a switch is off, a value is absent.
    case nothing
}

/// One setting as people see it.
package struct SettingRow: Sendable {
    /// The option without its dashes; the variable is made from it.
    package let name: String
    package let group: SettingGroup
    package let users: Set<SettingUser>
    /// What help shows in the value's place; nil for a switch, which takes none.
    package let placeholder: String?
    package let standard: SettingDefault
    /// What it does, in the page's form: no capital at the start, no full stop, backticks around what is typed.
    package let help: String
    /// Where the page explains the default.
    package let section: String?

    package var isSwitch: Bool { placeholder == nil }
    package var option: String { "--\(name)" }
    package var variable: String { Self.prefix + name.uppercased().replacing("-", with: "_") }

    /// What all variables begin with.
    package static let prefix = "SIDECAR_"

    /// The sentence for `--help`, with variable and default.
    package var helpText: String {
        let plain = help.replacing("`", with: "")
        // What is typed as it is keeps its small letter.
        let sentence = help.hasPrefix("`") ? plain : plain.prefix(1).uppercased() + plain.dropFirst()
        switch standard {
        case .text(let text), .words(let text): return "\(sentence) (\(variable); default \(text))."
        case .nothing: return "\(sentence) (\(variable))."
        }
    }
}

/// One setting with the type of its value.
package struct Setting<Value: Sendable>: Sendable {
    package let row: SettingRow
    /// Reads a given value.
    let read: @Sendable (GivenText) throws -> Value
    /// The value if none is given.
    let absent: @Sendable () throws -> Value

    /// A setting whose default can be written as a value.
    init(
        _ name: String, _ group: SettingGroup, of users: Set<SettingUser> = [.run], _ parser: SettingParser<Value>,
        placeholder: String? = nil, default text: String, section: String? = nil, _ help: String
    ) {
        let row = SettingRow(
            name: name, group: group, users: users, placeholder: placeholder ?? parser.placeholder,
            standard: .text(text), help: help, section: section)
        self.row = row
        read = parser.read
        absent = { try parser.read(GivenText(value: text, origin: "the default of \(row.option)")) }
    }

    /// A setting without such a default: nil if no value is given.
    init<Given>(
        _ name: String, _ group: SettingGroup, of users: Set<SettingUser> = [.run], _ parser: SettingParser<Given>,
        placeholder: String? = nil, otherwise words: String?, section: String? = nil, _ help: String
    ) where Value == Given? {
        row = SettingRow(
            name: name, group: group, users: users, placeholder: placeholder ?? parser.placeholder,
            standard: words.map { .words($0) } ?? .nothing, help: help, section: section)
        read = parser.read
        absent = { nil }
    }

    /// A switch: off unless it is turned on.
    init(switch name: String, _ group: SettingGroup, of users: Set<SettingUser> = [.run], _ help: String)
    where Value == Bool {
        row = SettingRow(
            name: name, group: group, users: users, placeholder: nil, standard: .nothing, help: help, section: nil)
        read = SettingParser.yesOrNo.read
        absent = { false }
    }
}

/// A given value, and its origin for errors: the option or the variable.
struct GivenText {
    let value: String
    let origin: String

    /// An error that names the origin and shows the value.
    func refused(_ reason: String) -> Failure { .configuration("\(origin) \(shown) \(reason)") }

    /// The value for an error: short, on one line, and without a password that got there by mistake.
    private var shown: String {
        let line = Redaction.withoutSecrets(String(value.unicodeScalars.filter { !$0.breaksLine }))
        return line.count <= 60 ? "'\(line)'" : "'\(line.prefix(60))...'"
    }
}
