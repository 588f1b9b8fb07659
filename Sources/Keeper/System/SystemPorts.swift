// The system around the keeper's loop: the clock, signals, the outlets, the watchdog.

import Clock
import Glibc
import Lease
import Metastore
import Outlets
import Settings

/// What `sidecar run` puts behind the loop's ports.
struct SystemPorts: Ports {
    typealias Guardian = GuardHold
    typealias Database = DatabaseSession
    typealias Notifications = Listener

    let settings: RunSettings
    let signals: KeeperSignals
    let watchdog: Watchdog
    var outlets: FanOut

    func now() -> Instant { BootClock.now() }

    mutating func nextSignal() -> KeeperSignal? {
        guard let number = signals.next() else { return nil }
        if number == SIGCHLD { return .childEnded }
        guard signals.stopping.contains(number) else { return .forChild(number) }
        let name = [SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGHUP: "SIGHUP: the terminal is gone"][number]
        outlets.tell(.askedToStop(signal: name ?? "signal \(number)"), at: now())
        return .stop(number == SIGHUP ? .terminalGone : .drain)
    }

    func childEnvironment(_ epoch: Epoch, database: String) -> [String] {
        ChildEnvironment.additions(identity: settings.identity, epoch: epoch, database: database)
            + (settings.keptDatabaseURL.map { ["SIDECAR_DATABASE_URL=\($0)"] } ?? [])
    }

    mutating func report(_ notice: Notice, _ epoch: Epoch?, at now: Instant) {
        outlets.tell(.notice(notice, epoch), at: now)
    }

    mutating func tell(_ word: Announcement, at now: Instant) { outlets.tell(word, at: now) }

    mutating func warn(_ problem: String, at now: Instant) { outlets.tell(.listenerProblem(problem), at: now) }

    mutating func publish(_ snapshot: Snapshot, at now: Instant) { outlets.show(Picture(snapshot, at: now)) }

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
