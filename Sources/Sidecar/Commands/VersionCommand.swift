// `sidecar version`.

import ArgumentParser
import Text

struct VersionCommand: ExitingCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

    func execute() throws -> Int32 {
        Console.out("sidecar \(Version.current)")
        return 0
    }
}
