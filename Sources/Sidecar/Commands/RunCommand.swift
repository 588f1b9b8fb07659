// `sidecar run`: reads the settings, sets the scene (signals, log, watchdog, readiness), and hands over to the keeper's
// loop.

import ArgumentParser
import CLinux
import Clock
import Glibc
import Guard
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
              N        with --once: the command's own (128 + signal)
              126/127  the command cannot be executed / found
              64/78    wrong usage / configuration
              71       the operating system refused a process or signals
              80       the guard process was lost; its tree is dead
              81       the keeper hung
              83       PostgreSQL refused every login for --auth-failure-limit
            """)

    @Option(help: "PostgreSQL of the lease, URL or keywords (SIDECAR_DATABASE_URL; else PG*, else Airflow's setting).")
    var databaseUrl: String?
    @Option(help: "File with that URL, read before each connect (SIDECAR_DATABASE_URL_FILE).")
    var databaseUrlFile: String?
    @Option(help: "Name of the lease (SIDECAR_LEASE; default airflow-scheduler).")
    var lease: String?
    @Option(help: "Name of this place (SIDECAR_NODE; default the host name).")
    var node: String?
    @Option(help: "How long the lease lasts after a renewal (SIDECAR_TTL; default 10s).")
    var ttl: String?
    @Option(help: "How often the leader renews (SIDECAR_RENEW_INTERVAL; default TTL / 5).")
    var renewInterval: String?
    @Option(help: "How much before the TTL the child is killed (SIDECAR_MARGIN; default TTL / 5).")
    var margin: String?
    @Option(help: "How long the command may take to end after SIGTERM (SIDECAR_GRACE; default 30s).")
    var grace: String?
    @Option(help: "The readiness file (SIDECAR_READY_FILE; default /run/sidecar/ready).")
    var readyFile: String?
    @Option(
        help: "healthy: leader and standbys are ready; leader: only the leader (SIDECAR_READY_WHEN; default healthy).")
    var readyWhen: String?
    @Option(help: "resume: keep the child until its deadline; kill: at once (SIDECAR_ON_SESSION_LOSS; default resume).")
    var onSessionLoss: String?
    @Flag(help: "Accept a connection pooler in session mode (SIDECAR_ALLOW_SESSION_POOLER).")
    var allowSessionPooler = false
    @Option(
        help: "End after refused logins alone for so long; 0s: never (SIDECAR_AUTH_FAILURE_LIMIT; default 5m).")
    var authFailureLimit: String?
    @Flag(help: "Leave SIDECAR_DATABASE_URL in the command's environment (SIDECAR_KEEP_DATABASE_URL).")
    var keepDatabaseUrl = false
    @Option(help: "Restarts of a failing command before another node gets its turn (SIDECAR_MAX_RESTARTS; default 3).")
    var maxRestarts: String?
    @Option(help: "The time in which they are counted (SIDECAR_RESTART_WINDOW; default 5m).")
    var restartWindow: String?
    @Option(help: "How long this node then stays out (SIDECAR_COOLDOWN; default 1m).")
    var cooldown: String?
    @Flag(help: "End with the command's exit code instead of restarting it (SIDECAR_ONCE).")
    var once = false
    @Option(help: "Added to the command's nice value, 0 to 19 (SIDECAR_CHILD_NICE; default 10).")
    var childNice: String?
    @Option(help: "Added to the command's oom_score_adj, 0 to 1000 (SIDECAR_CHILD_OOM_SCORE_ADJ; default 500).")
    var childOomScoreAdj: String?
    @Option(help: "trace, debug, info, notice, warning, error or critical (SIDECAR_LOG_LEVEL; default info).")
    var logLevel: String?
    @Option(help: "text or json (SIDECAR_LOG_FORMAT; default text).")
    var logFormat: String?
    @Argument(parsing: .postTerminator, help: "The command and its arguments, after `--`.")
    var command: [String] = []

    /// Runs until the end and returns the exit code.
    func execute(guardProcess: GuardProcess?, guardError: Int32) throws -> Int32 {
        guard let name = command.first else {
            throw Failure.usage("no command given: sidecar run [options] -- COMMAND [ARG ...]")
        }
        guard let guardProcess else {
            throw Failure(
                code: Failure.operatingSystem, message: "cannot make the guard process: \(errorText(guardError))")
        }
        // Before anything is claimed: the guard finds there what it must kill.
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
        let environment = Environment.current
        let settings = try RunSettings(options: options, command: command, environment: environment)
        if let code = Executable.problem(name, path: environment["PATH"]) { throw code }
        let commandIndex = Int(clinux_argc()) - command.count
        return try keep(settings, guardProcess: guardProcess, commandIndex: commandIndex)
    }

    private func keep(_ settings: RunSettings, guardProcess: GuardProcess, commandIndex: Int) throws -> Int32 {
        guard let signals = KeeperSignals() else {
            throw Failure(code: Failure.operatingSystem, message: "cannot take signals: \(errorText(errno))")
        }
        let lock = try ReadyFileLock(settings.readyFile, node: settings.identity.node)
        let sink = try LogSink()
        var log = Logger(label: "sidecar") { _ in
            SinkLogHandler(sink: sink, format: settings.logFormat, logLevel: settings.logLevel)
        }
        log[metadataKey: "lease"] = "\(settings.identity.lease)"
        log[metadataKey: "node"] = "\(settings.identity.node)"
        let watchdog = Watchdog()
        try watchdog.start(ttl: settings.timing.ttl) {
            sink.append(
                "sidecar: the keeper's loop has hung for a TTL: ending, so that the guard kills and somebody restarts us"
            )
            sink.flush(milliseconds: 200)
            _exit(ExitCode.loopHung)
        }
        let publisher = try Publisher(file: settings.readyFile, lock: lock) { [log] in log.warning("\($0)") }
        log.info(
            "sidecar \(Version.current) starts, instance \(settings.identity.instance), TTL \(Durations.text(settings.timing.ttl)), database \(settings.database.settings) (from \(settings.database.origin)), readiness file \(settings.readyFile.path)"
        )
        if let caution = settings.database.caution { log.warning("\(caution)") }
        var loop = KeeperLoop(
            settings: settings, guardProcess: guardProcess, commandIndex: commandIndex, log: log, signals: signals,
            watchdog: watchdog, publisher: publisher)
        let code = loop.run()
        sink.flush(milliseconds: 500)
        return code
    }

    private var options: RunOptions {
        var options = RunOptions()
        options.databaseURL = databaseUrl
        options.databaseURLFile = databaseUrlFile
        options.keepDatabaseURL = keepDatabaseUrl
        options.authFailureLimit = authFailureLimit
        options.lease = lease
        options.node = node
        options.ttl = ttl
        options.renewInterval = renewInterval
        options.margin = margin
        options.grace = grace
        options.readyFile = readyFile
        options.readyWhen = readyWhen
        options.onSessionLoss = onSessionLoss
        options.allowSessionPooler = allowSessionPooler
        options.maxRestarts = maxRestarts
        options.restartWindow = restartWindow
        options.cooldown = cooldown
        options.once = once
        options.childNice = childNice
        options.childOOMScoreAdj = childOomScoreAdj
        options.logLevel = logLevel
        options.logFormat = logFormat
        return options
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

    /// The name, unless it is a variable's setting, or a URL that was meant for elsewhere.
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
