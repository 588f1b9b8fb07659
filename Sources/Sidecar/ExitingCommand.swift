// What a command is that ends with more than yes or no.

import ArgumentParser

/// A command with exit codes of its own.
protocol ExitingCommand: ParsableCommand {
    func execute() throws -> Int32
}
