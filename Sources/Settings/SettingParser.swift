// How the text of a setting becomes a value. Each parser throws one line that names the option or variable.

import Metastore
import Text

/// Reads the text of one kind of setting.
struct SettingParser<Value: Sendable>: Sendable {
    /// What help shows in the value's place; nil for a switch.
    let placeholder: String?
    /// - Throws: `Failure` with exit code 78.
    let read: @Sendable (GivenText) throws -> Value
}

extension SettingParser where Value == Duration {
    static var duration: Self {
        Self(placeholder: "duration") { given in
            guard let duration = Durations.parse(given.value) else {
                throw given.refused(
                    "is not a valid duration: write a number with a unit, such as 10s, 1500ms, 5m or 1h")
            }
            return duration
        }
    }
}

extension SettingParser where Value: FixedWidthInteger {
    /// A whole number within limits.
    static func number(_ allowed: ClosedRange<Value>) -> Self {
        Self(placeholder: "number") { given in
            guard let number = Value(given.value), allowed.contains(number) else {
                throw given.refused("is not a number from \(allowed.lowerBound) to \(allowed.upperBound)")
            }
            return number
        }
    }
}

extension SettingParser where Value: CaseIterable & RawRepresentable<String> {
    /// One of a few words.
    static var word: Self {
        let words = Value.allCases.map(\.rawValue)
        return Self(placeholder: words.joined(separator: "|")) { given in
            guard let value = Value(rawValue: given.value) else {
                throw given.refused("is not one of \(words.joined(separator: ", "))")
            }
            return value
        }
    }
}

extension SettingParser where Value == Bool {
    static var yesOrNo: Self {
        Self(placeholder: nil) { given in
            switch given.value.lowercased() {
            case "1", "true", "yes", "on": return true
            case "0", "false", "no", "off": return false
            default: throw given.refused("is not a valid switch: write true or false")
            }
        }
    }
}

extension SettingParser where Value == String {
    /// The text as it is. Other code finds out what it means.
    static var verbatim: Self { Self(placeholder: "text") { $0.value } }

    /// A plain text that will be shown in logs and stored in rows.
    static var text: Self {
        Self(placeholder: "text") { given in
            guard !given.value.isEmpty else { throw Failure.configuration("\(given.origin) is empty") }
            // A URL in the wrong place must not get into logs and rows.
            guard given.value.unicodeScalars.firstRange(of: "://".unicodeScalars) == nil,
                !given.value.unicodeScalars.contains(where: \.breaksLine)
            else {
                throw Failure.configuration(
                    "\(given.origin) looks like a URL or holds control characters: write a plain name")
            }
            return given.value
        }
    }

    static var leaseName: Self {
        Self(placeholder: "name") { given in
            guard LeaseKey.isValidName(given.value) else {
                throw Failure.configuration(
                    "the lease's name (--lease) must have 1 to 63 characters: letters, digits and . _ - /")
            }
            return given.value
        }
    }
}
