// Reads one setting from its option or, failing that, its variable, and says which of the two was wrong.

import Clock
import Text

/// Options first, then the environment.
package struct SettingReader {
    let environment: Environment

    package init(environment: Environment) { self.environment = environment }

    /// What somebody wrote, for an error: short, on one line, and without a password that got into the wrong place.
    private func shown(_ value: String) -> String {
        let line = Redaction.withoutSecrets(String(value.unicodeScalars.filter { !$0.breaksLine }))
        return line.count <= 60 ? "'\(line)'" : "'\(line.prefix(60))...'"
    }

    private func find(_ option: String?, _ name: String, _ variable: String) -> (value: String, origin: String)? {
        if let option { return (option, name) }
        return environment[variable].map { ($0, variable) }
    }

    func text(_ option: String?, _ name: String, _ variable: String) throws -> String? {
        guard let (value, origin) = find(option, name, variable) else { return nil }
        guard !value.isEmpty else { throw Failure.configuration("\(origin) is empty") }
        // It will be in logs and rows: a URL in the wrong place must not get there.
        guard value.unicodeScalars.firstRange(of: "://".unicodeScalars) == nil,
            !value.unicodeScalars.contains(where: \.breaksLine)
        else {
            throw Failure.configuration("\(origin) looks like a URL or holds control characters: write a plain name")
        }
        return value
    }

    func duration(_ option: String?, _ name: String, _ variable: String) throws -> Duration? {
        guard let (value, origin) = find(option, name, variable) else { return nil }
        guard let duration = Durations.parse(value) else {
            throw Failure.configuration(
                "\(origin) \(shown(value)) is no duration: write a number with a unit, such as 10s, 1500ms, 5m or 1h")
        }
        return duration
    }

    func count(_ option: String?, _ name: String, _ variable: String) throws -> Int? {
        guard let (value, origin) = find(option, name, variable) else { return nil }
        guard let count = Int(value), (0...1_000_000).contains(count) else {
            throw Failure.configuration("\(origin) \(shown(value)) is no number from 0 to 1000000")
        }
        return count
    }

    /// A whole number within limits.
    func whole(_ option: String?, _ name: String, _ variable: String, _ allowed: ClosedRange<Int32>) throws -> Int32? {
        guard let (value, origin) = find(option, name, variable) else { return nil }
        guard let number = Int32(value), allowed.contains(number) else {
            throw Failure.configuration(
                "\(origin) \(shown(value)) is not a number from \(allowed.lowerBound) to \(allowed.upperBound)")
        }
        return number
    }

    func choice(_ option: String?, _ name: String, _ variable: String, _ allowed: [String]) throws -> String? {
        guard let (value, origin) = find(option, name, variable) else { return nil }
        guard allowed.contains(value) else {
            throw Failure.configuration("\(origin) \(shown(value)) is none of \(allowed.joined(separator: ", "))")
        }
        return value
    }

    /// A switch: the option's presence, or a variable that says yes or no.
    package func flag(_ option: Bool, _ variable: String) throws -> Bool {
        guard !option, let value = environment[variable] else { return option }
        switch value.lowercased() {
        case "1", "true", "yes", "on": return true
        case "0", "false", "no", "off": return false
        default: throw Failure.configuration("\(variable) \(shown(value)) is neither true nor false")
        }
    }
}
