// From arguments to an exit code: parses, runs one command, and turns every error into one line on stderr.

import ArgumentParser
import CLinux
import Glibc
import Guard
import Settings
import Text

/// The root command; it only holds the others.
struct SidecarCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sidecar",
        abstract: "Runs a command on exactly one of many nodes, by a lease in PostgreSQL.",
        discussion: "Put it in front of the command: sidecar run -- airflow scheduler",
        version: Version.current,
        subcommands: [
            RunCommand.self, LeaseCommand.self, ProbeCommand.self, CheckCommand.self, MigrateCommand.self,
            VersionCommand.self,
        ])
}

/// The program as a whole.
enum Program {
    /// Runs the command the arguments name and returns the exit code.
    static func main(guardProcess: GuardProcess?, guardError: Int32) -> Int32 {
        let arguments = ownArguments()
        if arguments.first == "probe", let code = Probe.fastPath(Array(arguments.dropFirst())) { return code }
        if arguments.first == "run", let problem = StartLimits.problem() {
            Console.complain(problem.message)
            return problem.code
        }
        // The arguments are copied, so a password is no longer needed in the memory that ps reads.
        scrubArguments()
        do {
            let command = try SidecarCommand.parseAsRoot(arguments)
            switch command {
            case let run as RunCommand:
                return try run.execute(guardProcess: guardProcess, guardError: guardError)
            case let command as any ExitingCommand: return try command.execute()
            default:
                var command = command
                try command.run()
                return 0
            }
        } catch let failure as Failure {
            Console.complain(failure.message)
            return failure.code
        } catch {
            return explain(error, arguments)
        }
    }

    /// The arguments after the program's name. Swift's CommandLine is not used: it reads /proc and finds nothing
    /// without it.
    private static func ownArguments() -> [String] {
        guard let vector = clinux_argv() else { return [] }
        return (1..<max(1, Int(clinux_argc()))).compactMap { vector[$0].map { String(cString: $0) } }
    }

    /// Prints help and version as they are, and a usage error in one line.
    private static func explain(_ error: any Error, _ arguments: [String]) -> Int32 {
        let code = SidecarCommand.exitCode(for: error)
        if code == .success {
            Console.out(SidecarCommand.fullMessage(for: error))
            return 0
        }
        let message = SidecarCommand.message(for: error)
        // The parser quotes what it does not understand, and that may be a URL in the wrong place.
        let line = Redaction.message(message, about: arguments)
        let known = SidecarCommand.configuration.subcommands.compactMap { $0.configuration.commandName }
        let command = arguments.first.flatMap { known.contains($0) ? "\($0) " : nil } ?? ""
        Console.complain("\(line) (see `sidecar \(command)--help`)")
        return Failure.usage
    }
}
