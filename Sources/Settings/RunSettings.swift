// All settings of `sidecar run`: options, then their SIDECAR_ variables, then defaults. They are validated together,
// so that a contradiction ends the start with one line that names both sides.

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

/// The validated settings of one `run`.
package struct RunSettings {
    package let database: DatabaseSource
    package let machine: LeaseMachine.Settings
    package let readyFile: ReadyFile
    package let allowSessionPooler: Bool
    /// The value of `SIDECAR_DATABASE_URL` that the child gets (`--keep-database-url`); nil otherwise.
    package let keptDatabaseURL: String?
    package let command: [String]
    /// How much lower the child's priority is than that of keeper and guard.
    package let handicap: Handicap
    package let logLevel: Logger.Level
    package let logFormat: LogFormat

    package var identity: Identity { machine.identity }
    package var timing: Timing { machine.timing }
    package var readyWhen: ReadyWhen { machine.readyWhen }

    /// Warnings for the person who started it.
    package var cautions: [String] { unknownVariables + [database.caution].compactMap(\.self) }
    private let unknownVariables: [String]

    /// - Throws: `Failure` with exit code 78.
    package init(_ given: SettingReader, command: [String]) throws {
        let timing = try Self.timing(given)
        let lease = try given.value(\.lease)
        let node = try given.value(\.node) ?? hostName()
        guard node.utf8.count <= 255, !node.unicodeScalars.contains(where: \.breaksLine) else {
            throw Failure.configuration("the node's name (--node) must be at most 255 bytes without control characters")
        }
        let authFailureLimit = try given.value(\.authFailureLimit)
        machine = LeaseMachine.Settings(
            identity: Identity(
                lease: lease, node: node, instance: InstanceID(UUID().uuidString.lowercased())),
            timing: timing,
            restarts: RestartPolicy(
                maxRestarts: try given.value(\.maxRestarts), window: try given.value(\.restartWindow),
                cooldown: try given.value(\.cooldown)),
            grace: try given.value(\.grace), once: try given.value(\.once),
            killOnSessionLoss: try given.value(\.onSessionLoss) == .kill,
            authFailureLimit: authFailureLimit == .zero ? nil : authFailureLimit,
            readyWhen: try given.value(\.readyWhen))
        allowSessionPooler = try given.value(\.allowSessionPooler)
        readyFile = ReadyFile.forWriting(try given.value(\.readyFile))
        if let problem = readyFile.problem ?? readyFile.live.problem { throw Failure.configuration(problem) }
        let databaseURL = SettingsTable.shared.databaseURL.row.variable
        keptDatabaseURL = try given.value(\.keepDatabaseURL) ? given.environment[databaseURL] : nil
        self.command = command
        handicap = Handicap(nice: try given.value(\.childNice), oomScore: try given.value(\.childOOMScoreAdj))
        logLevel = try given.value(\.logLevel)
        logFormat = try given.value(\.logFormat)
        database = try given.database()
        unknownVariables = UnknownVariables.warnings(given.environment)
        // Safe here: this process still has only one thread, and the guard, and so the command, has an environment of
        // its own.
        ConnectionSettings.leaveServiceFile()
    }

    private static func timing(_ given: SettingReader) throws -> Timing {
        let ttl = try given.value(\.ttl)
        let renew = try given.value(\.renewInterval)
        let margin = try given.value(\.margin)
        let shownMargin = Durations.text(margin ?? ttl / 5)
        let shownRenew = Durations.text(renew ?? ttl / 5)
        let shownTTL = Durations.text(ttl)
        do {
            return try Timing(ttl: ttl, renewInterval: renew, margin: margin)
        } catch {
            let text =
                switch error {
                case .ttlOutOfRange: "--ttl \(shownTTL) is outside the allowed range from 500ms to 1h"
                case .marginTooSmall:
                    "--margin \(shownMargin) is too small for --ttl \(shownTTL): at least a twelfth of the TTL and at least "
                        + "50ms are needed to kill the command before another node may start it"
                case .marginTooLarge:
                    "--margin \(shownMargin) is more than half of --ttl \(shownTTL): lower it, or raise the TTL"
                case .renewIntervalTooSmall:
                    "--renew-interval \(shownRenew) is less than 20ms, the smallest allowed value"
                case .renewIntervalTooLarge:
                    "--renew-interval \(shownRenew) is too long for --ttl \(shownTTL) with --margin \(shownMargin): two "
                        + "renewals must fit into the \(Durations.text(ttl - (margin ?? ttl / 5))) that the command may live without one"
                }
            throw Failure.configuration(text)
        }
    }
}

/// gethostname(2).
package func hostName() -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
