// The keeper's loop: wait for the next thing (reply, notification, guard's answer, signal, time), feed it to the lease
// machine, carry out the actions it returns. It runs on one thread, waits only in poll(2), and decides nothing itself.
//
// The clock is read after news has arrived and before anything is sent: the machine's rules count on that order (R2, R3).

import Clock
import Glibc
import Guard
import Lease
import Logging
import Metastore
import Outlets
import Postgres
import Settings
import Text

/// One run of the keeper, from start to exit code.
package struct KeeperLoop: ~Copyable {
    private let settings: RunSettings
    private let log: Logger
    private let signals: KeeperSignals
    private let watchdog: Watchdog
    private let publisher: Publisher
    private let bootID = ReadyFile.bootID()
    private let timeNamespace = ReadyFile.timeNamespace()
    private var machine: LeaseMachine
    private var narrator: Narrator
    private var database: DatabaseLink
    private var listener: Listener
    private var guardLink: GuardLink
    private var everReady = false
    private var stopAsked = false
    private var undelivered: [Event] = []
    private var ending: Ending?
    private var published: (status: Status, at: Instant)?

    /// How the loop ends.
    private enum Ending {
        case exit(Exit)
        case refused(PreparationError)
    }

    package init(
        settings: RunSettings, guardProcess: GuardProcess, commandIndex: Int, log: Logger, signals: KeeperSignals,
        watchdog: Watchdog, publisher: Publisher
    ) {
        self.settings = settings
        self.log = log
        self.signals = signals
        self.watchdog = watchdog
        self.publisher = publisher
        machine = LeaseMachine(settings: settings.machine, at: BootClock.now())
        narrator = Narrator(log: log, identity: settings.identity)
        database = DatabaseLink(settings: settings)
        listener = Listener(settings: settings)
        guardLink = GuardLink(process: guardProcess, commandIndex: commandIndex, handicap: settings.handicap)
    }

    /// Runs until there is a reason to end, and returns the exit code.
    package mutating func run() -> Int32 {
        feed(.tick)
        while ending == nil {
            wait()
            watchdog.beat()
            guardLink.deliverWaiting()
            // The guard's news first: what it says about the tree matters more than any reply.
            feed(guardLink.receive())
            feed(takeUndelivered())
            feed(takeSignals())
            if guardLink.isDying { feed(guardLink.reap()) }
            feed(guardLink.sweep())
            takeDatabaseNews()
            takeListenerNews()
            feed(.tick)
            publish()
        }
        publisher.remove(waitingMilliseconds: 300)
        guardLink.dismiss(waitingMilliseconds: 1000)
        return exitCode()
    }

    /// Sleeps until something may have happened.
    private func wait() {
        let now = BootClock.now()
        // Often enough for the watchdog, whatever else is due.
        var until = now + settings.timing.ttl / 10
        until = min(until, machine.nextWake, database.deadline ?? until, listener.deadline ?? until)
        if let pause = guardLink.pause { until = min(until, now + pause) }
        if guardLink.isDying { until = min(until, now + .milliseconds(10)) }
        if !undelivered.isEmpty { until = now }
        var entries = [
            pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(
                fd: guardLink.descriptor, events: Int16(guardLink.isWaitingForRoom ? POLLIN | POLLOUT : POLLIN),
                revents: 0),
        ]
        entries += (database.pollDescriptors + listener.pollDescriptors).map {
            pollfd(fd: $0.fd, events: $0.events, revents: 0)
        }
        let left = until.since(now)
        // Rounded up: waking just before the time would make the loop spin.
        let milliseconds = left <= .zero ? 0 : Int32(clamping: left.milliseconds + 1)
        poll(&entries, nfds_t(entries.count), milliseconds)
    }

    private mutating func takeSignals() -> [Event] {
        var events: [Event] = []
        while let number = signals.next() {
            if number == SIGCHLD {
                events += guardLink.reap()
            } else if signals.stopping.contains(number) {
                let name = [SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGHUP: "SIGHUP: the terminal is gone"][number]
                log.info("got \(name ?? "signal \(number)")")
                // Of a terminal that closes several may tell: the shell, and the kernel when the shell ends.
                events.append(.stopRequested(stopAsked && number != SIGHUP ? .now : .drain))
                stopAsked = true
            } else {
                events.append(.signalReceived(number))
            }
        }
        return events
    }

    /// What came of orders that the guard did not take.
    private mutating func takeUndelivered() -> [Event] {
        defer { undelivered = [] }
        return undelivered
    }

    private mutating func takeDatabaseNews() {
        for news in database.advance() {
            switch news {
            case .event(let event): feed(event)
            case .ready(let facts):
                everReady = true
                listener.connection = database.connection
                listener.restart(at: BootClock.now())
                let (peer, encrypted) = database.peer
                narrator.sessionReady(
                    at: BootClock.now(), peer: peer, serverVersion: facts.serverVersion, encrypted: encrypted)
            case .unfenced(let unfenced, let facts): narrator.unfenced(unfenced, facts)
            case .credentials(.problem(let text)): narrator.problem(text, at: BootClock.now())
            case .credentials(.changed(let origin)):
                log.info("\(origin) holds other credentials than before: using them")
            case .refused(let error): if !everReady { ending = .refused(error) }
            }
        }
    }

    private mutating func takeListenerNews() {
        switch listener.advance(at: BootClock.now()) {
        case .recordChanged: feed(.notified)
        case .problem(let text): log.warning("\(text)")
        case nil: break
        }
    }

    private mutating func feed(_ events: [Event]) {
        for event in events { feed(event) }
    }

    private mutating func feed(_ event: Event) {
        guard ending == nil else { return }
        let now = BootClock.now()
        // A notice of the end of a leadership belongs to its epoch, although the machine is past it.
        let before = machine.status(at: now).epoch
        for action in machine.handle(event, at: now) {
            carryOut(action, at: now, epoch: machine.status(at: now).epoch ?? before)
        }
    }

    private mutating func carryOut(_ action: Action, at now: Instant, epoch: Epoch?) {
        switch action {
        case .openSession(let id): database.open(id)
        case .closeSession(let id): database.close(id)
        case .send(let id, let statement): database.send(statement, through: id)
        case .order(let order):
            undelivered += guardLink.order(order) { [settings, name = database.statements.database] epoch in
                ChildEnvironment.additions(identity: settings.identity, epoch: epoch, database: name)
                    + (settings.keptDatabaseURL.map { ["SIDECAR_DATABASE_URL=\($0)"] } ?? [])
            }
        case .killGuard: guardLink.killGuard()
        case .killBelowGuard:
            watchdog.retire()
            guardLink.startSweepingBelowGuard()
        case .killDescendants:
            watchdog.retire()
            guardLink.startSweeping()
        case .report(let notice): narrator.say(notice, epoch: epoch, at: now)
        case .exit(let exit): ending = .exit(exit)
        }
    }

    /// Hands the publisher a new picture when there is one, and often enough that the old one does not run out.
    private mutating func publish() {
        let now = BootClock.now()
        let status = machine.status(at: now)
        if let published, published.status == status, now.since(published.at) < settings.timing.ttl / 5 { return }
        published = (status, now)
        let ready = status.healthy && (settings.readyWhen == .healthy || status.role == .leader)
        publisher.publish(
            Publisher.Picture(
                ready: ready ? state(status, until: status.validUntil) : nil,
                live: status.isGuarded ? state(status, until: now + settings.timing.ttl) : nil))
    }

    private func state(_ status: Status, until: Instant) -> ReadyState {
        ReadyState(
            role: status.role.rawValue, lease: settings.identity.lease, node: settings.identity.node,
            instance: settings.identity.instance.rawValue, epoch: status.epoch?.rawValue, healthy: status.healthy,
            deadline: until.nanoseconds, bootID: bootID, timeNamespace: timeNamespace, pid: getpid(),
            version: Version.current, trouble: trouble(status))
    }

    /// For who asks why it is not ready.
    private func trouble(_ status: Status) -> String? {
        if let trouble = status.trouble { return oneLine(trouble.text, longest: 1000) }
        guard settings.readyWhen == .leader, status.role != .leader else { return nil }
        return "stands by, and --ready-when leader"
    }

    private func exitCode() -> Int32 {
        switch ending {
        case .exit(let exit):
            let code = ExitCode.of(exit)
            log.info("ends with exit code \(code)")
            return code
        case .refused(let error):
            log.error("\(error)")
            return Failure.configuration
        case nil: return Failure.software
        }
    }
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

/// The exit codes of `run`, besides those of sysexits.h for usage and configuration.
package enum ExitCode {
    static let guardLost: Int32 = 80
    package static let loopHung: Int32 = 81
    static let graceExceeded: Int32 = 82
    static let loginsRefused: Int32 = 83

    static func of(_ exit: Exit) -> Int32 {
        switch exit {
        case .stopped(killed: false): 0
        case .stopped(killed: true): graceExceeded
        case .childEnded(.code(let code)): code
        case .childEnded(.signal(let number)): 128 + number
        case .cannotExecute(errno: ENOENT): 127
        case .cannotExecute: 126
        case .guardLost: guardLost
        case .loginsRefused: loginsRefused
        }
    }
}

extension Trouble {
    /// For people.
    var text: String {
        switch self {
        case .outOfTouch(let reason): "no contact with the database" + (reason.map { ": \($0)" } ?? "")
        case .refused(let reason): reason
        case .guardUnavailable: "the guard does not answer"
        case .starved:
            "it could not kill the command in time, so it does not claim the lease: raise the CPU limit or --ttl (the log has figures)"
        case .commandNotRunning: "the command does not run"
        case .stopping: "it is stopping"
        }
    }
}
