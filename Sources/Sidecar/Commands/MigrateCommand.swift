// `sidecar migrate`: creates or upgrades the schema, or prints the SQL for a role that may.

import ArgumentParser
import Metastore
import Settings
import Text

struct MigrateCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Create or upgrade the schema. `run` does this itself if its role may.")

    @OptionGroup var options: SettingOptions<ForMigrate>
    @Flag(help: "Print the SQL for an empty database instead of running it.")
    var print = false

    func execute() throws -> Int32 {
        if print {
            Console.out(Schema.byHand)
            return 0
        }
        let given = options.reader()
        let source = try given.database()
        let allow = try given.value(\.allowSessionPooler)
        let before = try ToolSession.open(source, purpose: .look, allowPooler: allow).facts.schemaVersion
        let after = try ToolSession.open(source, purpose: .migrate, allowPooler: allow).facts
        Console.out(
            before == after.schemaVersion
                ? "schema \"sidecar\" in \(after.database) is up to date (version \(before))"
                : "schema \"sidecar\" in \(after.database): version \(before) -> \(after.schemaVersion)")
        return 0
    }
}
