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
        if arguments.first == "help", let word = arguments.dropFirst().first, !word.hasPrefix("-"),
            let problem = unknownCommand(word)
        {
            Console.complain(problem)
            return Failure.usage
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
        let first = arguments.first ?? ""
        if !first.hasPrefix("-"), let problem = unknownCommand(first) {
            Console.complain(problem)
        } else if first == "run", !arguments.contains("--"), line.contains("nexpected argument") {
            Console.complain("\(line): put `--` before the command, as in `sidecar run [options] -- COMMAND`")
        } else {
            Console.complain("\(line) (see `sidecar \(commands.contains(first) ? "\(first) " : "")--help`)")
        }
        return Failure.usage
    }

    private static var commands: [String] {
        SidecarCommand.configuration.subcommands.compactMap { $0.configuration.commandName }
    }

    /// What to say of a word that stands where a command must, and is none; nil for a command.
    static func unknownCommand(_ word: String) -> String? {
        guard !word.isEmpty, !commands.contains(word), word != "help" else { return nil }
        // A URL in the wrong place may hold a password.
        let name = Redaction.mayHoldSecret(word) ? "" : " '\(oneLine(word, longest: 60))'"
        let advice = Spelling.nearest(word, among: commands).map { "did you mean `sidecar \($0)`?" }
        return "there is no command\(name): \(advice ?? "see `sidecar --help`")"
    }
}
