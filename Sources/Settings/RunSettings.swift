// All settings of `sidecar run`: options, then their SIDECAR_... variables, then defaults; validated together, so that a
// contradiction ends the start with one line that names both sides.

import Clock
import FoundationEssentials
import Glibc
import Lease
import Logging
import Metastore
import Orders
import Outlets
import Postgres
import Text

/// What the option parser found; nil where nothing was given.
package struct RunOptions {
    package var databaseURL: String?
    package var databaseURLFile: String?
    package var keepDatabaseURL = false
    package var authFailureLimit: String?
    package var lease: String?
    package var node: String?
    package var ttl: String?
    package var renewInterval: String?
    package var margin: String?
    package var grace: String?
    package var readyFile: String?
    package var readyWhen: String?
    package var onSessionLoss: String?
    package var allowSessionPooler = false
    package var maxRestarts: String?
    package var restartWindow: String?
    package var cooldown: String?
    package var once = false
    package var childNice: String?
    package var childOOMScoreAdj: String?
    package var logLevel: String?
    package var logFormat: String?

    package init() {}
}

/// The validated settings of one `run`.
package struct RunSettings {
    package let database: DatabaseSource
    package let machine: LeaseMachine.Settings
    package let readyFile: ReadyFile
    package let allowSessionPooler: Bool
    /// What the child shall find in its environment although it is the sidecar's own: `SIDECAR_DATABASE_URL`.
    package let keptDatabaseURL: String?
    package let command: [String]
    /// What the child comes behind keeper and guard by.
    package let handicap: Handicap
    package let logLevel: Logger.Level
    package let logFormat: LogFormat

    package var identity: Identity { machine.identity }
    package var timing: Timing { machine.timing }
    package var readyWhen: ReadyWhen { machine.readyWhen }

    /// - Throws: `Failure` with exit code 78 (64 for an option's own value).
    package init(options: RunOptions, command: [String], environment: Environment) throws {
        let reader = SettingReader(environment: environment)
        let timing = try Self.timing(options, reader)
        let lease = try leaseName(options.lease, environment: environment)
        let node = try reader.text(options.node, "--node", "SIDECAR_NODE") ?? hostName()
        guard node.utf8.count <= 255, !node.unicodeScalars.contains(where: \.breaksLine) else {
            throw Failure.configuration("the node's name (--node) must be at most 255 bytes without control characters")
        }
        let loss = try reader.choice(
            options.onSessionLoss, "--on-session-loss", "SIDECAR_ON_SESSION_LOSS", ["resume", "kill"])
        let restarts = RestartPolicy(
            maxRestarts: try reader.count(options.maxRestarts, "--max-restarts", "SIDECAR_MAX_RESTARTS") ?? 3,
            window: try reader.duration(options.restartWindow, "--restart-window", "SIDECAR_RESTART_WINDOW")
                ?? .seconds(300),
            cooldown: try reader.duration(options.cooldown, "--cooldown", "SIDECAR_COOLDOWN") ?? .seconds(60))
        let readyWhen = try reader.choice(
            options.readyWhen, "--ready-when", "SIDECAR_READY_WHEN", ReadyWhen.allCases.map(\.rawValue))
        machine = LeaseMachine.Settings(
            identity: Identity(
                lease: lease, node: node, instance: InstanceID(UUID().uuidString.lowercased())),
            timing: timing, restarts: restarts,
            grace: try reader.duration(options.grace, "--grace", "SIDECAR_GRACE") ?? .seconds(30),
            once: try reader.flag(options.once, "SIDECAR_ONCE"), killOnSessionLoss: loss == "kill",
            authFailureLimit: try Self.authFailureLimit(options, reader),
            readyWhen: readyWhen.flatMap { ReadyWhen(rawValue: $0) } ?? .healthy)
        allowSessionPooler = try reader.flag(options.allowSessionPooler, "SIDECAR_ALLOW_SESSION_POOLER")
        readyFile = ReadyFile.forWriting(try reader.text(options.readyFile, "--ready-file", "SIDECAR_READY_FILE"))
        if let problem = readyFile.problem ?? readyFile.live.problem { throw Failure.configuration(problem) }
        let keeps = try reader.flag(options.keepDatabaseURL, "SIDECAR_KEEP_DATABASE_URL")
        keptDatabaseURL = keeps ? environment["SIDECAR_DATABASE_URL"] : nil
        self.command = command
        handicap = Handicap(
            nice: try reader.whole(options.childNice, "--child-nice", "SIDECAR_CHILD_NICE", 0...19) ?? 10,
            oomScore: try reader.whole(
                options.childOOMScoreAdj, "--child-oom-score-adj", "SIDECAR_CHILD_OOM_SCORE_ADJ", 0...1000) ?? 500)
        let level = try reader.choice(
            options.logLevel, "--log-level", "SIDECAR_LOG_LEVEL", Logger.Level.allCases.map(\.rawValue))
        logLevel = level.flatMap { Logger.Level(rawValue: $0) } ?? .info
        let format = try reader.choice(
            options.logFormat, "--log-format", "SIDECAR_LOG_FORMAT", LogFormat.allCases.map(\.rawValue))
        logFormat = format.flatMap { LogFormat(rawValue: $0) } ?? .text
        database = try DatabaseSource.find(
            option: options.databaseURL, file: options.databaseURLFile, environment: environment)
        // This process has one thread yet, and the guard, hence the command, an environment of its own.
        ConnectionSettings.leaveServiceFile()
    }

    /// 0 turns it off.
    private static func authFailureLimit(_ options: RunOptions, _ reader: SettingReader) throws -> Duration? {
        let limit = try reader.duration(options.authFailureLimit, "--auth-failure-limit", "SIDECAR_AUTH_FAILURE_LIMIT")
        return limit == .zero ? nil : limit ?? .seconds(300)
    }

    private static func timing(_ options: RunOptions, _ reader: SettingReader) throws -> Timing {
        let ttl = try reader.duration(options.ttl, "--ttl", "SIDECAR_TTL") ?? .seconds(10)
        let renew = try reader.duration(options.renewInterval, "--renew-interval", "SIDECAR_RENEW_INTERVAL")
        let margin = try reader.duration(options.margin, "--margin", "SIDECAR_MARGIN")
        let shownMargin = Durations.text(margin ?? ttl / 5)
        let shownRenew = Durations.text(renew ?? ttl / 5)
        let shownTTL = Durations.text(ttl)
        do {
            return try Timing(ttl: ttl, renewInterval: renew, margin: margin)
        } catch {
            let text =
                switch error {
                case .ttlOutOfRange: "--ttl \(shownTTL) is outside 500ms to 1h"
                case .marginTooSmall:
                    "--margin \(shownMargin) is too small for --ttl \(shownTTL): at least a twelfth of it and 50ms "
                        + "are needed to kill the child before another node may start its own"
                case .marginTooLarge:
                    "--margin \(shownMargin) is more than half of --ttl \(shownTTL): lower it, or raise the TTL"
                case .renewIntervalTooSmall: "--renew-interval \(shownRenew) is below 20ms"
                case .renewIntervalTooLarge:
                    "--renew-interval \(shownRenew) is too long for --ttl \(shownTTL) with --margin \(shownMargin): two "
                        + "renewals must fit into the \(Durations.text(ttl - (margin ?? ttl / 5))) that a child may live"
                }
            throw Failure.configuration(text)
        }
    }
}

/// The lease's name from its option, its variable or the default.
package func leaseName(_ option: String?, environment: Environment) throws -> String {
    let name = option ?? environment["SIDECAR_LEASE"] ?? "airflow-scheduler"
    guard LeaseKey.isValidName(name) else {
        throw Failure.configuration("the lease's name (--lease) takes 1 to 63 letters, digits and . _ - /")
    }
    return name
}

/// gethostname(2).
package func hostName() -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
