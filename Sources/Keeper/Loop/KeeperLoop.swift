// The keeper's loop: wait for the next thing (reply, notification, guard's answer, signal, time), feed it to the lease
// machine, carry out the actions it returns. It decides nothing itself. What it touches is behind `Ports`, so that the
// simulation runs this very loop.
//
// The clock is read after news has arrived and before anything is sent: the machine's rules count on that order (R2,
// R3).

import Clock
import Lease
import Orders

/// One run of the keeper, from its first event to the reason to end.
struct KeeperLoop<P: Ports> {
    var ports: P
    var machine: LeaseMachine
    var guardLink: GuardLink<P.Guardian>
    var database: DatabaseLink<P.Database>
    var listener: P.Notifications
    /// Why it ends. Nothing is fed to the machine any more.
    private(set) var ending: Exit?
    private let pictureInterval: Duration
    private var published: (snapshot: Snapshot, at: Instant)?

    init(
        settings: LeaseMachine.Settings, ports: P, guardLink: GuardLink<P.Guardian>, database: P.Database,
        listener: P.Notifications
    ) {
        self.ports = ports
        self.guardLink = guardLink
        self.listener = listener
        pictureInterval = settings.timing.pictureInterval
        machine = LeaseMachine(settings: settings, at: ports.now())
        self.database = DatabaseLink(session: database, timing: settings.timing)
    }

    /// Sets the machine going.
    mutating func begin() { feed(.tick) }

    /// Once round: takes all the news there is, and does what is due. To be called when there may be news, and at
    /// `wake`.
    mutating func turn() {
        ports.beat()
        guardLink.deliverWaiting()
        // The guard's news first: what it says about the tree matters more than any reply.
        feed(guardLink.receive())
        feed(takeSignals())
        if guardLink.isDying { feed(guardLink.reap()) }
        feed(guardLink.sweep(at: ports.now()))
        takeDatabaseNews()
        takeListenerNews()
        feed(.tick)
        publish()
    }

    /// When to turn at the latest, if nothing happens before.
    func wake(at now: Instant) -> Instant {
        var wake = machine.nextWake
        if let deadline = database.deadline { wake = min(wake, deadline) }
        if let deadline = listener.deadline { wake = min(wake, deadline) }
        if let pause = guardLink.pause { wake = min(wake, now + pause) }
        return wake
    }

    private mutating func takeSignals() -> [Event] {
        var events: [Event] = []
        while let signal = ports.nextSignal() {
            switch signal {
            case .childEnded: events += guardLink.reap()
            case .stop(let request): events.append(.stopRequested(request))
            case .forChild(let number): events.append(.signalReceived(number))
            }
        }
        return events
    }

    private mutating func takeDatabaseNews() {
        for news in database.advance(at: ports.now()) {
            switch news {
            case .word(let word): ports.tell(word, at: ports.now())
            case .event(let event):
                if case .sessionOpened = event { listener.follow(database.session, at: ports.now()) }
                feed(event)
            }
        }
    }

    private mutating func takeListenerNews() {
        switch listener.advance(at: ports.now()) {
        case .recordChanged: feed(.notified)
        case .problem(let text): ports.warn(text, at: ports.now())
        case nil: break
        }
    }

    private mutating func feed(_ events: [Event]) {
        for event in events { feed(event) }
    }

    private mutating func feed(_ event: Event) {
        guard ending == nil else { return }
        let now = ports.now()
        // What comes of an action at once is the machine's next news: before any other can make it mean something else.
        var followUps: [Event] = []
        for action in ports.handle(event, with: &machine, at: now) { followUps += carryOut(action, at: now) }
        feed(followUps)
    }

    private mutating func carryOut(_ action: Action, at now: Instant) -> [Event] {
        switch action {
        case .openSession(let id): database.open(id)
        case .closeSession(let id): database.close(id)
        case .send(let id, let statement): database.send(statement, through: id)
        case .start(let id, let deadline, let epoch):
            let environment = ports.childEnvironment(epoch, database: database.session.name)
            return guardLink.start(id, deadline: deadline, environment: environment)
        case .order(let order): guardLink.order(order)
        case .killGuard: guardLink.killGuard()
        // At once: the loop may be late for its next turn, and the tree has no more time than the keeper.
        case .killBelowGuard:
            ports.retireWatchdog()
            guardLink.startSweepingBelowGuard(at: now)
            return guardLink.sweep(at: now)
        case .killDescendants:
            ports.retireWatchdog()
            guardLink.startSweeping(at: now)
            return guardLink.sweep(at: now)
        case .report(let notice, let epoch): ports.report(notice, epoch, at: now)
        case .exit(let exit): ending = exit
        }
        return []
    }

    /// Publishes a new picture when there is one, and often enough that the old one does not run out.
    private mutating func publish() {
        let now = ports.now()
        let snapshot = machine.snapshot(at: now)
        if let published, published.snapshot == snapshot, now.since(published.at) < pictureInterval { return }
        published = (snapshot, now)
        ports.publish(snapshot, at: now)
    }
}
