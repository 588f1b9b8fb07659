// The table of settings: each row is complete, its default can be read, and the page about configuration says the same.

import Clock
import Foundation
import Testing
import Text

@testable import Settings

@Suite("The table of settings") struct SettingsTableTests {
    @Test("Each setting has a row, under a name of its own and in the order of the groups") func rows() {
        let names = SettingsTable.rows.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.count == Mirror(reflecting: SettingsTable.shared).children.count)
        let groups = SettingsTable.rows.compactMap { SettingGroup.allCases.firstIndex(of: $0.group) }
        #expect(groups == groups.sorted() && Set(groups).count == SettingGroup.allCases.count)
        #expect(SettingsTable.rows.allSatisfy { $0.users.contains(.run) })
    }

    @Test("Every default can be read") func defaults() throws {
        for (label, setting) in Mirror(reflecting: SettingsTable.shared).children {
            let setting = try #require(setting as? any WithDefault, "\(label ?? "?")")
            #expect(throws: Never.self) { try setting.readDefault() }
        }
    }

    @Test("Every setting is read: nonsense in any variable is refused", arguments: SettingsTable.rows)
    func allAreRead(row: SettingRow) {
        // Not a URL, not a duration, not a number, not a word, not a name of a lease, not the place of a file.
        let environment = Environment([row.variable: "postgresql://u:hunter2\n@h"])
        #expect {
            try RunSettings(SettingReader(options: [:], environment: environment), command: ["true"])
        } throws: { error in
            guard let failure = error as? Failure else { return false }
            let isNamed = failure.message.contains(row.variable) || failure.message.contains("(\(row.option))")
            return failure.code == 78 && isNamed && !failure.message.contains("hunter2")
        }
    }

    /// Compares the page with the table. With SIDECAR_WRITE_PAGES=1 in the environment the test writes the page's part anew.
    @Test("The page about configuration shows the table") func page() throws {
        let page = try Page("docs/configuration.md")
        let written = SettingsPage.tables
        if ProcessInfo.processInfo.environment["SIDECAR_WRITE_PAGES"] == "1" { try page.replace(with: written) }
        let found = try Page("docs/configuration.md").settings
        for (expected, found) in zip(written.split(separator: "\n"), found.split(separator: "\n")) {
            #expect(expected == found)
        }
        #expect(written == found, "run this test with SIDECAR_WRITE_PAGES=1 to write the page")
    }

    @Test("The page names the options of the other commands", arguments: [SettingUser.check, .lease, .migrate, .probe])
    func otherCommands(user: SettingUser) throws {
        let text = try Page("docs/configuration.md").text
        let row = try #require(
            text.split(separator: "\n").first { $0.hasPrefix("| `\(user.rawValue)`") }, "\(user) has a row")
        let common = try #require(
            text.firstMatch(of: /`migrate` also take (.+?)\./.dotMatchesNewlines()), "what they all take")
        let options = { (text: Substring) in Set(text.matches(of: /--[a-z-]+/).map { String($0.output) }) }
        let own: Set = ["--print", "--limit"]
        let named = options(row).subtracting(own).union(user == .probe ? [] : options(common.output.1))
        #expect(named == Set(SettingsTable.rows.filter { $0.users.contains(user) }.map(\.option)))
    }
}

/// A setting whatever the type of its value.
private protocol WithDefault {
    func readDefault() throws
}

extension Setting: WithDefault {
    fileprivate func readDefault() throws { _ = try absent() }
}

/// The page's part that shows the table.
private enum SettingsPage {
    static var tables: String {
        SettingGroup.allCases.map { group in
            let rows = SettingsTable.rows.filter { $0.group == group }
            return "### \(group.rawValue)\n\n| option | variable | default | meaning |\n|---|---|---|---|\n"
                + rows.map(line).joined()
        }.joined(separator: "\n")
    }

    private static func line(_ row: SettingRow) -> String {
        "| `\(row.option)` | `\(row.variable)` | \(standard(row)) | \(row.help) |\n"
    }

    private static func standard(_ row: SettingRow) -> String {
        let text =
            switch row.standard {
            case .text(let text): "`\(text)`"
            case .words(let words): words
            case .nothing: row.isSwitch ? "off" : "none"
            }
        return row.section.map { "[\(text)](\($0))" } ?? text
    }
}

/// A page of the repository with a part that is made from the table.
private struct Page {
    static let begin = "<!-- made from Sources/Settings/SettingsTable.swift; SettingsTableTests compares -->\n\n"
    static let end = "\n<!-- end of the settings -->"

    let path: URL
    let text: String
    private let range: Range<String.Index>

    init(_ name: String) throws {
        path = URL(fileURLWithPath: #filePath).appending(path: "../../../\(name)").standardized
        text = try String(contentsOf: path, encoding: .utf8)
        let begin = try #require(text.range(of: Self.begin), "\(name) says where the settings begin")
        let end = try #require(text.range(of: Self.end), "\(name) says where the settings end")
        range = begin.upperBound..<end.lowerBound
    }

    var settings: String { String(text[range]) }

    func replace(with settings: String) throws {
        try text.replacingCharacters(in: range, with: settings).write(to: path, atomically: true, encoding: .utf8)
    }
}
