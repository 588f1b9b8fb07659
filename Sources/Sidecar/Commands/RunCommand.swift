// `sidecar run`: reads the settings, prepares everything (signals, log, watchdog, readiness), and hands over to the
// keeper's loop.

import ArgumentParser
import CLinux
import Clock
import Glibc
import Guard
import Helpers
import Keeper
import Logging
import Outlets
import Settings
import Text

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the command while holding the lease; stand by while another node does.",
        usage: "sidecar run [options] -- COMMAND [ARG ...]",
        discussion: """
            Every option can also be set by the variable in parentheses. Durations: 10s, 1500ms, 5m, 1h.

            Exit codes:
              0        stopped as asked
              82       stopped as asked, but the command had to be killed
              N        with --once: the command's exit code (128 + signal number)
              126/127  the command cannot be executed / found
              64/78    wrong usage / configuration
              71       the operating system refused something that the sidecar needs, or a limit is too low
              80       the guard process was lost; the command's process tree is dead
              81       the sidecar's main loop hung
              83       PostgreSQL refused every login for --auth-failure-limit
            """)

    /// How long the end waits for helper programs that were killed: one in uninterruptible sleep must not hold it up.
    private static let farewellToHelpers: Int32 = 1000

    @OptionGroup var options: SettingOptions<ForRun>
    @Argument(parsing: .postTerminator, help: "The command and its arguments, after `--`.")
    var command: [String] = []

    /// Runs until the end and returns the exit code.
    func execute(guardProcess: GuardProcess?, guardError: Int32) throws -> Int32 {
        guard let name = command.first else {
            throw Failure.usage("no command given: sidecar run [options] -- COMMAND [ARG ...]")
        }
        guard let guardProcess else {
            throw Failure(
                code: Failure.operatingSystem, message: "cannot create the guard process: \(errorText(guardError))")
        }
        // Checked before anything is claimed, because the guard finds in /proc what it must kill.
        guard access("/proc/self/stat", R_OK) == 0 else {
            throw Failure(
                code: Failure.operatingSystem,
                message:
                    "cannot read /proc/self/stat: \(errorText(errno)): mount /proc, where the guard finds the processes "
                    + "that it must be able to kill")
        }
        guard Tree.seesOwnProcesses else {
            throw Failure(
                code: Failure.operatingSystem,
                message:
                    "/proc shows another PID namespace, so the guard could not find the processes that it must be able "
                    + "to kill: mount the /proc of this one")
        }
        let given = options.reader()
        let settings = try read(given)
        if let code = Executable.problem(name, path: given.environment["PATH"]) { throw code }
        let commandIndex = Int(clinux_argc()) - command.count
        return try keep(settings, guardProcess: guardProcess, commandIndex: commandIndex)
    }

    /// Reads the settings. If one is wrong, a misspelt variable may be the reason. There is no log yet to say so, so
    /// the warnings are printed here.
    private func read(_ given: SettingReader) throws -> RunSettings {
        do {
            return try RunSettings(given, command: command)
        } catch {
            for warning in UnknownVariables.warnings(given.environment) { Console.complain(warning) }
            throw error
        }
    }

    private func keep(_ settings: RunSettings, guardProcess: GuardProcess, commandIndex: Int) throws -> Int32 {
        guard let signals = KeeperSignals() else {
            throw Failure(code: Failure.operatingSystem, message: "cannot receive signals: \(errorText(errno))")
        }
        let lock = try ReadyFileLock(settings.readyFile, node: settings.identity.node)
        let sink = try LogSink()
        var log = Logger(label: "sidecar") { _ in
            SinkLogHandler(sink: sink, format: settings.logFormat, logLevel: settings.logLevel)
        }
        log[metadataKey: "lease"] = "\(settings.identity.lease)"
        log[metadataKey: "node"] = "\(settings.identity.node)"
        let helpers = HelperPrograms()
        let watchdog = Watchdog()
        try watchdog.start(ttl: settings.timing.ttl) {
            sink.append(
                "sidecar: the main loop has hung for a TTL: exiting with code \(ExitCode.loopHung), so that the guard kills the command and the sidecar is restarted"
            )
            helpers.end(waitingMilliseconds: 200)
            sink.flush(milliseconds: 200)
            _exit(ExitCode.loopHung)
        }
        let readiness = ReadinessOutlet(
            file: settings.readyFile, lock: lock, identity: settings.identity, ttl: settings.timing.ttl
        ) { [log] in log.warning("\($0)") }
        let outlets = FanOut(
            log: Narrator(log: log, identity: settings.identity),
            others: [try OutletThread("sidecar-ready", readiness)])
        log.info(
            "sidecar \(Version.current) starts, instance \(settings.identity.instance), TTL \(Durations.text(settings.timing.ttl)), database \(settings.database.settings) (from \(settings.database.origin)), readiness file \(settings.readyFile.path)"
        )
        for caution in settings.cautions { log.warning("\(caution)") }
        var keeper = KeeperRun(
            settings: settings, guardProcess: guardProcess, commandIndex: commandIndex, signals: signals,
            watchdog: watchdog, outlets: outlets, helpers: helpers)
        let code = keeper.run()
        helpers.end(waitingMilliseconds: Self.farewellToHelpers)
        sink.flush(milliseconds: 500)
        return code
    }
}

/// Whether a command can be executed at all, looked at before any lease is claimed for it.
enum Executable {
    /// The failure to report, with the exit code a shell would give: 127 not found, 126 not executable.
    static func problem(_ name: String, path: String?) -> Failure? {
        if name.isEmpty { return Failure(code: 127, message: "cannot execute the command: its name is empty") }
        if name.contains("/") { return problem(at: name, named: name) }
        var found: Failure?
        for folder in (path ?? "/bin:/usr/bin").split(separator: ":", omittingEmptySubsequences: false) {
            let file = (folder.isEmpty ? "." : String(folder)) + "/" + name
            guard let problem = problem(at: file, named: name) else { return nil }
            if problem.code == 126 { found = problem }
        }
        return found ?? failure(127, name, "not found in PATH")
    }

    private static func problem(at file: String, named name: String) -> Failure? {
        var status = stat()
        guard stat(file, &status) == 0 else { return failure(127, name, errorText(errno)) }
        guard status.st_mode & S_IFMT == S_IFREG, access(file, X_OK) == 0 else {
            let place = Redaction.mayHoldSecret(file) ? "it" : oneLine(file, longest: 200)
            return failure(126, name, "\(place) is not an executable file")
        }
        return nil
    }

    private static func failure(_ code: Int32, _ name: String, _ reason: String) -> Failure {
        Failure(code: code, message: "cannot execute \(shown(name)): \(reason)")
    }

    /// The command's name for an error. Not if it looks like a variable's setting or a URL, because it may hold a
    /// password.
    private static func shown(_ name: String) -> String {
        guard Redaction.mayHoldSecret(name) else { return "'\(oneLine(name, longest: 200))'" }
        let scalars = name.unicodeScalars
        let variable = scalars.firstIndex(of: "=").map { String(scalars[..<$0]) } ?? ""
        let isVariable = variable.utf8.allSatisfy { byte in
            byte == UInt8(ascii: "_") || (48...57).contains(byte) || (97...122).contains(byte | 32)
        }
        return variable.isEmpty || !isVariable
            ? "the command (its name is not repeated, as it may hold a password)"
            : "the variable \(oneLine(variable, longest: 60))=... (put `env` in front of it: -- env NAME=VALUE COMMAND)"
    }
}
