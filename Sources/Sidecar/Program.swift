// From arguments to an exit code: parses, runs one command, and turns every error into one line on stderr.

import ArgumentParser
import CLinux
import Glibc
import Guard

/// The root command; it only holds the others.
struct SidecarCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sidecar",
        abstract: "Runs a command on exactly one of many nodes, by a lease in PostgreSQL.",
        discussion: "Put it in front of the command: sidecar run -- airflow scheduler",
        version: Program.version,
        subcommands: [
            RunCommand.self, LeaseCommand.self, ProbeCommand.self, CheckCommand.self, MigrateCommand.self,
            VersionCommand.self,
        ])
}

/// The program as a whole.
enum Program {
    static let version = "0.1.0"

    /// Runs the command the arguments name and returns the exit code.
    static func main(guardProcess: GuardProcess?, guardError: Int32) -> Int32 {
        let arguments = ownArguments()
        if let code = CredentialsHelper.main(arguments) { return code }
        if arguments.first == "probe", let code = Probe.fastPath(Array(arguments.dropFirst())) { return code }
        // The keeper's own copy of the arguments is made: a password in the memory that ps reads is not needed any more.
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
            complain(failure.message)
            return failure.code
        } catch {
            return explain(error, arguments)
        }
    }

    /// The arguments after the program's name. Not Swift's CommandLine, which reads /proc and finds none without it.
    private static func ownArguments() -> [String] {
        guard let vector = clinux_argv() else { return [] }
        return (1..<max(1, Int(clinux_argc()))).compactMap { vector[$0].map { String(cString: $0) } }
    }

    /// One line on stderr, after the program's name.
    static func complain(_ message: String) {
        Console.error("sidecar: \(message)")
    }

    /// Help and version as they come; usage errors in one line.
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
        complain("\(line) (see `sidecar \(command)--help`)")
        return Failure.usage
    }
}

/// A command with exit codes of its own.
protocol ExitingCommand: ParsableCommand {
    func execute() throws -> Int32
}

/// An error people can act on, with the exit code that tells scripts what kind it is (sysexits.h).
struct Failure: Error, Equatable {
    static let usage: Int32 = 64
    static let unavailable: Int32 = 69
    static let software: Int32 = 70
    static let operatingSystem: Int32 = 71
    static let noPermission: Int32 = 77
    static let configuration: Int32 = 78

    let code: Int32
    let message: String

    static func configuration(_ message: String) -> Failure { Failure(code: configuration, message: message) }
    static func usage(_ message: String) -> Failure { Failure(code: usage, message: message) }
    static func unavailable(_ message: String) -> Failure { Failure(code: unavailable, message: message) }
}

/// Plain output of the short commands. (`run` logs through LogSink, which never blocks.)
enum Console {
    /// Ends the program with 74 (EX_IOERR) when it cannot be written: half an answer must not look like a whole one.
    static func out(_ text: String) {
        guard !writeLine(text, to: STDOUT_FILENO) else { return }
        error("sidecar: cannot write the output: \(errorText(errno))")
        exit(74)
    }

    static func error(_ text: String) { _ = writeLine(text, to: STDERR_FILENO) }

    private static func writeLine(_ text: String, to file: Int32) -> Bool {
        write(text.hasSuffix("\n") ? text : text + "\n", to: file)
    }

    /// Writes all of it, as it is; false, with errno, when it cannot.
    static func write(_ text: String, to file: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            bytes = bytes.dropFirst(count)
        }
        return true
    }
}
