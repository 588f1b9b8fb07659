// The system around the keeper's loop: the clock, signals, the log, the readiness files, the watchdog.

import Clock
import Glibc
import Lease
import Logging
import Metastore
import Outlets
import Settings
import Text

/// What `sidecar run` puts behind the loop's ports.
struct SystemPorts: Ports {
    typealias Guardian = GuardHold
    typealias Database = DatabaseSession
    typealias Notifications = Listener

    let settings: RunSettings
    let log: Logger
    let signals: KeeperSignals
    let watchdog: Watchdog
    let publisher: Publisher
    private let bootID = ReadyFile.bootID()
    private let timeNamespace = ReadyFile.timeNamespace()
    private var narrator: Narrator

    init(
        settings: RunSettings, log: Logger, signals: KeeperSignals, watchdog: Watchdog, publisher: Publisher
    ) {
        self.settings = settings
        self.log = log
        self.signals = signals
        self.watchdog = watchdog
        self.publisher = publisher
        narrator = Narrator(log: log, identity: settings.identity)
    }

    func now() -> Instant { BootClock.now() }

    func nextSignal() -> KeeperSignal? {
        guard let number = signals.next() else { return nil }
        if number == SIGCHLD { return .childEnded }
        guard signals.stopping.contains(number) else { return .forChild(number) }
        let name = [SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGHUP: "SIGHUP: the terminal is gone"][number]
        log.info("got \(name ?? "signal \(number)")")
        return .stop(number == SIGHUP ? .terminalGone : .drain)
    }

    func childEnvironment(_ epoch: Epoch, database: String) -> [String] {
        ChildEnvironment.additions(identity: settings.identity, epoch: epoch, database: database)
            + (settings.keptDatabaseURL.map { ["SIDECAR_DATABASE_URL=\($0)"] } ?? [])
    }

    mutating func report(_ notice: Notice, _ epoch: Epoch?, at now: Instant) {
        narrator.say(notice, epoch: epoch, at: now)
    }

    mutating func tell(_ word: DatabaseSession.Word, at now: Instant) {
        switch word {
        case .connected(let peer, let version, let encrypted):
            narrator.sessionReady(at: now, peer: peer, serverVersion: version, encrypted: encrypted)
        case .unfenced(let unfenced, let facts): narrator.unfenced(unfenced, facts)
        case .credentials(.problem(let text)): narrator.problem(text, at: now)
        case .credentials(.changed(let origin)):
            log.info("\(origin) holds other credentials than before: using them")
        }
    }

    /// The last line.
    func exiting(_ exit: Exit, code: Int32) { narrator.exiting(exit, code: code) }

    func warn(_ problem: String) { log.warning("\(problem)") }

    func publish(_ snapshot: Snapshot, at now: Instant) {
        publisher.publish(
            Publisher.Picture(
                ready: snapshot.isReady ? state(snapshot, until: snapshot.validUntil) : nil,
                live: snapshot.isGuarded ? state(snapshot, until: now + settings.timing.ttl) : nil))
    }

    private func state(_ snapshot: Snapshot, until: Instant) -> ReadyState {
        ReadyState(
            role: snapshot.role.code, lease: settings.identity.lease, node: settings.identity.node,
            instance: settings.identity.instance.rawValue, epoch: snapshot.epoch?.rawValue,
            healthy: snapshot.isHealthy, deadline: until.nanoseconds, bootID: bootID, timeNamespace: timeNamespace,
            pid: getpid(), version: Version.current,
            // Why it is not ready, for the probes.
            trouble: snapshot.unready.map { oneLine($0.text, longest: 1000) })
    }

    func beat() { watchdog.beat() }

    func retireWatchdog() { watchdog.retire() }
}

/// What the child finds in its environment (R8).
enum ChildEnvironment {
    static func additions(identity: Identity, epoch: Epoch, database: String) -> [String] {
        [
            "SIDECAR_LEASE=\(identity.lease)",
            "SIDECAR_EPOCH=\(epoch)",
            "SIDECAR_NODE=\(identity.node)",
            "SIDECAR_INSTANCE=\(identity.instance)",
            "PGAPPNAME=\(LeaseKey.label(identity: identity, epoch: epoch, database: database))",
        ]
    }
}

extension Trouble {
    /// For people.
    var text: String {
        switch self {
        case .outOfTouch(let reason): "no contact with the database" + (reason.map { ": \($0)" } ?? "")
        case .refused(let reason): reason.text
        case .guardUnavailable: "the guard does not answer"
        case .starved:
            "it could not kill the command in time, so it does not claim the lease: raise the CPU limit or --ttl (the log has figures)"
        case .commandNotRunning: "the command does not run"
        case .stopping: "it is stopping"
        case .standsBy: "it stands by, and --ready-when is leader"
        }
    }
}
