// A command that returns an exit code of its own.

import ArgumentParser

/// A command that returns its exit code.
protocol ExitingCommand: ParsableCommand {
    func execute() throws -> Int32
}
