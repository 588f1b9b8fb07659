// The one table of settings. Options, SIDECAR_ variables, help and defaults come from it, and a test compares the
// page about configuration with it. A new setting is a row here, and a line in RunSettings that reads it.

import Lease
import Logging
import Outlets

/// What a leader does when its session is lost.
package enum OnSessionLoss: String, CaseIterable, Sendable {
    /// Keeps the child until its deadline.
    case resume
    /// Kills it at once.
    case kill
}

/// All settings, in the order in which help and page show them.
package struct SettingsTable: Sendable {
    private static let withDatabase: Set<SettingUser> = [.run, .check, .lease, .migrate]

    // DatabaseSource finds out what a URL holds.
    let databaseURL = Setting(
        "database-url", .database, of: withDatabase, .verbatim, placeholder: "url",
        otherwise: "PG*, else Airflow's setting", section: "#the-database",
        "PostgreSQL of the lease, as URL or keywords")
    let databaseURLFile = Setting(
        "database-url-file", .database, of: withDatabase, .verbatim, placeholder: "file", otherwise: nil,
        "file that holds that URL; it is read before each connect")
    package let allowSessionPooler = Setting(
        switch: "allow-session-pooler", .database, of: withDatabase, "accept a pooler in session mode")
    let authFailureLimit = Setting(
        "auth-failure-limit", .database, .duration, default: "5m",
        "exit with code 83 if PostgreSQL refuses every login for this long; `0s`: never")
    let keepDatabaseURL = Setting(
        switch: "keep-database-url", .database, "leave `SIDECAR_DATABASE_URL` in the command's environment")

    package let lease = Setting(
        "lease", .lease, of: [.run, .check, .lease], .leaseName, default: "airflow-scheduler",
        "name of the lease: 1 to 63 letters, digits, `.` `_` `-` `/`")
    let node = Setting(
        "node", .lease, of: [.run, .check], .text, placeholder: "name", otherwise: "host name",
        "name of this node in logs and tables; at most 255 bytes")
    let ttl = Setting(
        "ttl", .lease, of: [.run, .check], .duration, default: "10s",
        "how long the lease lasts after a renewal was sent")
    let renewInterval = Setting(
        "renew-interval", .lease, of: [.run, .check], .duration, otherwise: "TTL / 5",
        "how often the leader renews the lease and standbys read it")
    let margin = Setting(
        "margin", .lease, of: [.run, .check], .duration, otherwise: "TTL / 5",
        "how long before the end of the TTL the command is killed")
    let onSessionLoss = Setting<OnSessionLoss>(
        "on-session-loss", .lease, .word, default: "resume",
        "`resume`: keep the command running until its deadline; `kill`: kill it at the first lost session")

    let grace = Setting(
        "grace", .child, .duration, default: "30s", "how long the command may take to end after SIGTERM")
    let maxRestarts = Setting<Int>(
        "max-restarts", .child, .number(0...1_000_000), default: "3",
        "restarts of a failing command before the lease is released to another node; 0 to 1000000")
    let restartWindow = Setting(
        "restart-window", .child, .duration, default: "5m", "the period in which these restarts are counted")
    let cooldown = Setting(
        "cooldown", .child, .duration, default: "1m", "how long this node then does not claim the lease")
    let once = Setting(
        switch: "once", .child, "exit with the command's exit code instead of restarting the command")
    let childNice = Setting<Int32>(
        "child-nice", .child, .number(0...19), default: "10",
        "added to the command's nice value, 0 to 19, so that the sidecar gets the processor first; "
            + "0: the command keeps the nice value that the sidecar was started with")
    let childOOMScoreAdj = Setting<Int32>(
        "child-oom-score-adj", .child, .number(0...1000), default: "500",
        "added to the command's `oom_score_adj`, 0 to 1000, so that the kernel kills the command before the sidecar "
            + "when memory runs out; 0: unchanged")

    package let readyFile = Setting(
        "ready-file", .readiness, of: [.run, .probe], .text, placeholder: "file", otherwise: "/run/sidecar/ready",
        section: "#the-readiness-file", "path of the readiness file")
    let readyWhen = Setting<ReadyWhen>(
        "ready-when", .readiness, .word, default: "healthy",
        "`healthy`: leader and standbys are ready; `leader`: only the leader")

    let logLevel = Setting<Logger.Level>(
        "log-level", .log, .word, placeholder: "level", default: "info",
        "least severe level to log: `trace` `debug` `info` `notice` `warning` `error` `critical`")
    let logFormat = Setting<LogFormat>(
        "log-format", .log, .word, default: "text", "`text` or `json`, one line per event, to stderr")

    package static let shared = SettingsTable()

    /// All rows, in their order. A mirror finds them, so that no second list can lack one.
    package static let rows = Mirror(reflecting: shared).children.compactMap { ($0.value as? any RowHolder)?.row }
}

/// A setting whatever the type of its value.
private protocol RowHolder {
    var row: SettingRow { get }
}

extension Setting: RowHolder {}
