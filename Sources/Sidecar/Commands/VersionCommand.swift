// `sidecar version`.

import ArgumentParser

struct VersionCommand: ExitingCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

    func execute() throws -> Int32 {
        Console.out("sidecar \(Program.version)")
        return 0
    }
}
