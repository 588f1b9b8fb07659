// Hears that a record has changed, through a session of its own that only listens. It makes a hand-over quick and is
// needed for nothing else: whoever may connect to the database may flood its channel, and then it hangs up, and the
// standby polls.

import Clock
import Metastore
import Postgres
import Settings
import Text

/// The session that listens.
struct Listener: ListenerPort {
    private enum Stage {
        /// Not connected. `retryAt` is nil before the lease's session has shown that there is a database.
        case down(retryAt: Instant?)
        case opening(Session)
        case listening(Session, renewAt: Instant)
    }

    /// How many notifications in a second are a flood. Every lease of the database shares the channel, and a whole
    /// fleet may restart at once.
    private static let floodPerSecond = 500
    /// How long it stays away after a flood or a failure.
    private static let pause = Duration.seconds(30)

    private let settings: RunSettings
    private var stage = Stage.down(retryAt: nil)
    private var heard = (since: Instant(nanoseconds: 0), count: 0)
    private var floodedUntil: Instant?
    /// Said, and nothing has gone well for long since.
    private var complained = false

    /// What it connects with: the lease's session's, whose credentials may change.
    private var connection: ConnectionSettings

    init(settings: RunSettings) {
        self.settings = settings
        connection = settings.database.settings
    }

    /// What poll(2) shall watch.
    var pollDescriptors: [(fd: Int32, events: Int16)] { session?.pollDescriptors ?? [] }

    /// When to advance at the latest.
    var deadline: Instant? {
        switch stage {
        case .down(let retryAt): retryAt
        case .opening(let session): session.deadline
        case .listening(let session, let renewAt): session.deadline ?? renewAt
        }
    }

    private var session: Session? {
        switch stage {
        case .down: nil
        case .opening(let session), .listening(let session, _): session
        }
    }

    /// The lease's session is new, maybe with another server: listen there.
    mutating func follow(_ database: DatabaseSession, at now: Instant) {
        connection = database.connection
        session?.close()
        stage = .down(retryAt: max(now, floodedUntil ?? now))
    }

    /// Reads whatever there is. Never more than a session takes in one go, and the last of what a flood brings.
    mutating func advance(at now: Instant) -> ListenerNews? {
        if case .down(let retryAt?) = stage, now >= retryAt { open(at: now) }
        guard let session else { return nil }
        var news: ListenerNews?
        var notifications = 0
        for event in session.advance(now: now) {
            switch event {
            case .connected: listen(session, at: now)
            case .result:
                // What was said before it listened was not heard.
                if case .opening = stage { news = .recordChanged } else { complained = false }
                stage = .listening(session, renewAt: now + settings.timing.listenInterval)
            case .notification(Statements.channel, let lease):
                notifications += 1
                if lease == settings.identity.lease { news = .recordChanged }
            case .notification: break
            case .queryFailed(let error): return fail("\(error)", at: now)
            case .lost(let failure): return fail("\(failure)", at: now)
            }
        }
        if isFlooded(notifications, at: now) {
            floodedUntil = now + Self.pause
            return fail(
                "more than \(Self.floodPerSecond) a second came on channel \"\(Statements.channel)\": find out who sends "
                    + "them (pg_stat_activity, query like '%notify%')", at: now)
        }
        if case .listening(_, let renewAt) = stage, now >= renewAt, session.isIdle { listen(session, at: now) }
        return news
    }

    private mutating func open(at now: Instant) {
        let call = settings.timing.callLimit
        let seconds = max(.seconds(1), call)
        heard = (now, 0)
        stage = .opening(
            Session(
                settings: connection,
                applicationName: "sidecar-listener:\(settings.identity.lease):\(settings.identity.node)",
                limits: Limits(
                    attempt: call, connect: settings.timing.life, keepaliveIdle: seconds, keepaliveInterval: seconds,
                    keepaliveCount: 3, userTimeout: settings.timing.ttl)))
    }

    private func listen(_ session: Session, at now: Instant) {
        let call = settings.timing.callLimit
        session.send(
            Statements.listen(
                callLimit: call, idleLimit: settings.timing.idleListenerLimit, serverVersion: session.serverVersion ?? 0
            ),
            now: now, limit: call)
    }

    private mutating func isFlooded(_ notifications: Int, at now: Instant) -> Bool {
        if now.since(heard.since) >= .seconds(1) { heard = (now, 0) }
        heard.count += notifications
        return heard.count > Self.floodPerSecond
    }

    private mutating func fail(_ reason: String, at now: Instant) -> ListenerNews? {
        session?.close()
        stage = .down(retryAt: now + Self.pause)
        defer { complained = true }
        return complained
            ? nil
            : .problem(
                "cannot listen for notifications, and tries again in \(Durations.text(Self.pause)): until then, taking "
                    + "over a released lease takes up to \(Durations.text(settings.timing.renewInterval)) longer: \(reason)"
            )
    }
}
