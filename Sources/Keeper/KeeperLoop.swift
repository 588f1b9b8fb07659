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
import Orders
import Outlets
import Postgres
import Settings
import Text

/// One run of the keeper, from start to exit code.
package struct KeeperLoop: ~Copyable {
    /// How long the end waits for the readiness files to be removed: a hanging disk must not hold it up.
    private static let farewellToFiles: Int32 = 300
    /// How long the end waits for an idle guard to go home.
    private static let farewellToGuard: Int32 = 1000

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
    private var ending: Exit?
    private var published: (snapshot: Snapshot, at: Instant)?

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
            feed(takeSignals())
            if guardLink.isDying { feed(guardLink.reap()) }
            feed(guardLink.sweep())
            takeDatabaseNews()
            takeListenerNews()
            feed(.tick)
            publish()
        }
        publisher.remove(waitingMilliseconds: Self.farewellToFiles)
        guardLink.dismiss(waitingMilliseconds: Self.farewellToGuard)
        return exitCode()
    }

    /// Sleeps until something may have happened.
    private func wait() {
        let now = BootClock.now()
        var until = now + settings.timing.longestLoopWait
        until = min(until, machine.nextWake, database.deadline ?? until, listener.deadline ?? until)
        if let pause = guardLink.pause { until = min(until, now + pause) }
        if guardLink.isDying { until = min(until, now + GuardLink.sweepPause) }
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
                events.append(.stopRequested(number == SIGHUP ? .terminalGone : .drain))
            } else {
                events.append(.signalReceived(number))
            }
        }
        return events
    }

    private mutating func takeDatabaseNews() {
        for news in database.advance() {
            switch news {
            case .event(let event): feed(event)
            case .ready(let facts):
                listener.connection = database.connection
                listener.restart(at: BootClock.now())
                let (peer, encrypted) = database.peer
                narrator.sessionReady(
                    at: BootClock.now(), peer: peer, serverVersion: facts.serverVersion, encrypted: encrypted)
            case .unfenced(let unfenced, let facts): narrator.unfenced(unfenced, facts)
            case .credentials(.problem(let text)): narrator.problem(text, at: BootClock.now())
            case .credentials(.changed(let origin)):
                log.info("\(origin) holds other credentials than before: using them")
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
        // What comes of an action at once is the machine's next news: before any other can make it mean something else.
        var followUps: [Event] = []
        for action in machine.handle(event, at: now) { followUps += carryOut(action, at: now) }
        feed(followUps)
    }

    private mutating func carryOut(_ action: Action, at now: Instant) -> [Event] {
        switch action {
        case .openSession(let id): database.open(id)
        case .closeSession(let id): database.close(id)
        case .send(let id, let statement): database.send(statement, through: id)
        case .start(let id, let deadline, let epoch):
            let environment =
                ChildEnvironment.additions(
                    identity: settings.identity, epoch: epoch, database: database.statements.database)
                + (settings.keptDatabaseURL.map { ["SIDECAR_DATABASE_URL=\($0)"] } ?? [])
            return guardLink.start(id, deadline: deadline, environment: environment)
        case .order(let order): guardLink.order(order)
        case .killGuard: guardLink.killGuard()
        case .killBelowGuard:
            watchdog.retire()
            guardLink.startSweepingBelowGuard()
        case .killDescendants:
            watchdog.retire()
            guardLink.startSweeping()
        case .report(let notice, let epoch): narrator.say(notice, epoch: epoch, at: now)
        case .exit(let exit): ending = exit
        }
        return []
    }

    /// Hands the publisher a new picture when there is one, and often enough that the old one does not run out.
    private mutating func publish() {
        let now = BootClock.now()
        let snapshot = machine.snapshot(at: now)
        if let published, published.snapshot == snapshot,
            now.since(published.at) < settings.timing.pictureInterval
        {
            return
        }
        published = (snapshot, now)
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

    private func exitCode() -> Int32 {
        guard let ending else { return Failure.software }
        let code = ExitCode.of(ending)
        narrator.exiting(ending, code: code)
        return code
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
        case .databaseUnusable: Failure.configuration
        }
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
