// The keeper's loop: wait for the next thing (reply, notification, guard's answer, signal, time), feed it to the lease
// machine, carry out the actions it returns. It runs on one thread, waits only in poll(2), and decides nothing itself.
//
// The clock is read after news has arrived and before anything is sent: the machine's rules count on that order (R2, R3).

import Clock
import Glibc
import Guard
import Helpers
import Lease
import Metastore
import Orders
import Outlets
import Postgres
import Settings
import Text

/// One run of the keeper, from start to exit code.
package struct KeeperLoop: ~Copyable {
    /// How long the end waits for the outlets, such as the readiness files to be removed: a hanging disk must not hold it up.
    private static let farewellToOutlets: Int32 = 300
    /// How long the end waits for an idle guard to go home.
    private static let farewellToGuard: Int32 = 1000

    private let settings: RunSettings
    private let signals: KeeperSignals
    private let watchdog: Watchdog
    private var machine: LeaseMachine
    private var outlets: FanOut
    private var database: DatabaseLink
    private var listener: Listener
    private var guardLink: GuardLink
    private var ending: Exit?
    private var published: (snapshot: Snapshot, at: Instant)?

    package init(
        settings: RunSettings, guardProcess: GuardProcess, commandIndex: Int, signals: KeeperSignals,
        watchdog: Watchdog, outlets: FanOut, helpers: HelperPrograms
    ) {
        self.settings = settings
        self.signals = signals
        self.watchdog = watchdog
        self.outlets = outlets
        machine = LeaseMachine(settings: settings.machine, at: BootClock.now())
        database = DatabaseLink(settings: settings, helpers: helpers)
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
        outlets.close(waitingMilliseconds: Self.farewellToOutlets)
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
                outlets.tell(.askedToStop(signal: name ?? "signal \(number)"), at: BootClock.now())
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
                outlets.tell(
                    .connected(peer: peer, serverVersion: facts.serverVersion, encrypted: encrypted),
                    at: BootClock.now())
            case .unfenced(let unfenced, let facts): outlets.tell(.unfenced(unfenced, facts), at: BootClock.now())
            case .credentials(.problem(let text)): outlets.tell(.credentialsProblem(text), at: BootClock.now())
            case .credentials(.changed(let origin)):
                outlets.tell(.credentialsChanged(origin: origin), at: BootClock.now())
            }
        }
    }

    private mutating func takeListenerNews() {
        switch listener.advance(at: BootClock.now()) {
        case .recordChanged: feed(.notified)
        case .problem(let text): outlets.tell(.listenerProblem(text), at: BootClock.now())
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
        case .report(let notice, let epoch): outlets.tell(.notice(notice, epoch), at: now)
        case .exit(let exit): ending = exit
        }
        return []
    }

    /// Shows a new picture when there is one, and often enough that the old one does not run out.
    private mutating func publish() {
        let now = BootClock.now()
        let snapshot = machine.snapshot(at: now)
        if let published, published.snapshot == snapshot,
            now.since(published.at) < settings.timing.pictureInterval
        {
            return
        }
        published = (snapshot, now)
        outlets.show(Picture(snapshot, at: now))
    }

    private mutating func exitCode() -> Int32 {
        guard let ending else { return Failure.software }
        let code = ExitCode.of(ending)
        outlets.tell(.ending(ending, exitCode: code), at: BootClock.now())
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
