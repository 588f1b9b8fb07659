// Turns rows of the table of settings into options of a command. ArgumentParser finds a command's options among its
// properties with a mirror. Here the mirror shows one option for each row, so that no setting is written a second
// time.

import ArgumentParser
import Settings

/// A command, as the table of settings names it.
protocol SettingUserName { static var user: SettingUser { get } }
enum ForRun: SettingUserName { static let user = SettingUser.run }
enum ForCheck: SettingUserName { static let user = SettingUser.check }
enum ForLease: SettingUserName { static let user = SettingUser.lease }
enum ForMigrate: SettingUserName { static let user = SettingUser.migrate }
enum ForProbe: SettingUserName { static let user = SettingUser.probe }

/// A group, as the table of settings names it.
protocol SettingGroupName { static var group: SettingGroup { get } }
enum InDatabase: SettingGroupName { static let group = SettingGroup.database }
enum InLease: SettingGroupName { static let group = SettingGroup.lease }
enum InChild: SettingGroupName { static let group = SettingGroup.child }
enum InReadiness: SettingGroupName { static let group = SettingGroup.readiness }
enum InLog: SettingGroupName { static let group = SettingGroup.log }

/// All settings that one command takes.
struct SettingOptions<User: SettingUserName>: ParsableArguments {
    @OptionGroup(title: InDatabase.group.rawValue) var database: GroupOptions<User, InDatabase>
    @OptionGroup(title: InLease.group.rawValue) var lease: GroupOptions<User, InLease>
    @OptionGroup(title: InChild.group.rawValue) var child: GroupOptions<User, InChild>
    @OptionGroup(title: InReadiness.group.rawValue) var readiness: GroupOptions<User, InReadiness>
    @OptionGroup(title: InLog.group.rawValue) var log: GroupOptions<User, InLog>

    /// What was given to the command, with this process's environment behind it.
    func reader(_ environment: Environment = .current) -> SettingReader {
        let groups = [database.given, lease.given, child.given, readiness.given, log.given]
        return SettingReader(options: groups.reduce(into: [:]) { $0.merge($1) { $1 } }, environment: environment)
    }
}

/// The settings of one group that one command takes.
struct GroupOptions<User: SettingUserName, Group: SettingGroupName>: ParsableArguments, CustomReflectable {
    /// By the option's name; a switch that is there has "true".
    private(set) var given: [String: String] = [:]

    init() {}

    private static var rows: [SettingRow] {
        SettingsTable.rows.filter { $0.group == Group.group && $0.users.contains(User.user) }
    }

    var customMirror: Mirror {
        Mirror(self, children: Self.rows.map { (label: $0.name, value: Self.property($0)) })
    }

    private static func property(_ row: SettingRow) -> Any {
        let help = ArgumentHelp(row.helpText, valueName: row.placeholder)
        return row.isSwitch
            ? Flag(wrappedValue: false, name: .customLong(row.name), help: help)
            : Option<String?>(name: .customLong(row.name), help: help)
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: OptionKey.self)
        for row in Self.rows {
            let key = OptionKey(stringValue: row.name)
            if row.isSwitch {
                given[row.name] = try values.decode(Flag<Bool>.self, forKey: key).wrappedValue ? "true" : nil
            } else {
                given[row.name] = try values.decode(Option<String?>.self, forKey: key).wrappedValue
            }
        }
    }
}

/// The name of an option, as the decoder wants it.
private struct OptionKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}
