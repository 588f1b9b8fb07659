// The outlet that writes the log: says what the machine did, each state change once. A database that stays away is said once and then, unchanged, only
// every minute.

import Clock
import Glibc
import Lease
import Logging
import Metastore
import Orders
import Text

/// Turns announcements into log lines. It never blocks: the log has a queue (LogSink).
package struct Narrator: Outlet {
    private let log: Logger
    private let identity: Identity
    /// What was said since the last usable session, and when. Not only the last: an outage may show in turns as a reset
    /// and as an unexpected end.
    private var problems: [String: Instant] = [:]
    /// Whose sessions this leadership was said to leave alone. Not how many: they come and go, with every renewal.
    private var unfenced: Set<String> = []

    package init(log: Logger, identity: Identity) {
        self.log = log
        self.identity = identity
    }

    package mutating func take(_ announcement: Announcement, at now: Instant) {
        switch announcement {
        case .notice(let notice, let epoch): say(notice, epoch: epoch, at: now)
        case .connected(let peer, let version, let encrypted):
            sessionReady(at: now, peer: peer, serverVersion: version, encrypted: encrypted)
        case .unfenced(let unfenced, let facts): self.unfenced(unfenced, facts)
        case .credentialsProblem(let text): problem(text, at: now)
        case .credentialsChanged(let origin):
            log.info("\(origin) holds other credentials than before: using them")
        case .listenerProblem(let text): log.warning("\(text)")
        case .askedToStop(let signal): log.info("got \(signal)")
        case .ending(let code): log.info("ends with exit code \(code)")
        }
    }

    /// Something repeats itself when a database is away: say it when it is new, and every minute.
    private mutating func problem(_ text: String, at now: Instant) {
        problems = problems.filter { now.since($0.value) < .seconds(60) }
        guard problems[text] == nil else { return }
        problems[text] = now
        log.warning("\(text)")
    }

    /// The session is usable: the next problem is a new one.
    private mutating func sessionReady(at now: Instant, peer: String, serverVersion: Int, encrypted: Bool) {
        let text = "connected to PostgreSQL \(serverVersion / 10000) at \(peer)\(encrypted ? " with TLS" : "")"
        if !problems.isEmpty { log.info("\(text) again") } else { log.info("\(text)") }
        problems = [:]
    }

    /// R8: sessions of an earlier child that this role may not end. Once a leadership for each set of their owners.
    private mutating func unfenced(_ unfenced: Unfenced, _ facts: SessionFacts) {
        guard self.unfenced.insert("\(unfenced.roles) \(unfenced.superusers)").inserted else { return }
        var reasons: [String] = []
        if !unfenced.roles.isEmpty {
            // Credentials made for one session, and for each node others, are no role to connect as or to grant to.
            let connect = facts.assumed == nil ? ", or let the command connect as \"\(facts.login)\"" : ""
            reasons.append(
                "\(unfenced.roles) owns them, and \"\(facts.user)\" may not: GRANT pg_signal_backend TO \"\(facts.grantee)\"\(connect)"
            )
        }
        if !unfenced.superusers.isEmpty {
            reasons.append(
                "\(unfenced.superusers) owns them, and only a superuser may end a superuser's: let the command connect as an ordinary role"
            )
        }
        log.warning(
            "cannot terminate \(unfenced.sessions) database session(s) of an earlier child, which may still write: \(reasons.joined(separator: "; "))"
        )
    }

    private mutating func say(_ notice: Notice, epoch: Epoch?, at now: Instant) {
        var log = log
        if let epoch { log[metadataKey: "epoch"] = "\(epoch)" }
        switch notice {
        case .lost, .released, .releaseRefused: unfenced = []
        default: break
        }
        switch notice {
        case .sessionLost(let reason), .statementFailed(let reason): problem(reason, at: now)
        default:
            let (level, text) = line(for: notice)
            log.log(level: level, "\(text)")
        }
    }

    private func line(for notice: Notice) -> (Logger.Level, String) {
        switch notice {
        case .sessionLost(let reason), .statementFailed(let reason): return (.warning, reason)
        case .refused(let reason):
            return (.error, "not ready, as this sidecar could not take the lease: \(reason.text)")
        case .noLongerRefused: return (.info, "ready again: PostgreSQL refuses nothing any more")
        case .recordCreated(let wait):
            return (
                .info,
                "the lease has no record yet: made one, and wait \(Durations.text(wait)) (one TTL) before the first claim, because the leader of a lost record could still be running"
            )
        case .standby(let record, let wait): return (.info, standby(record, wait: wait))
        case .suspended: return (.warning, "the lease is suspended: nobody may claim it until it is resumed")
        case .claimed(let epoch, .released): return (.info, "claimed the released lease, epoch \(epoch)")
        case .claimed(let epoch, .expired): return (.info, "claimed the lease after its TTL ran out, epoch \(epoch)")
        case .claimed(let epoch, .unclaimed): return (.info, "claimed the lease that nobody held, epoch \(epoch)")
        case .lockWaived:
            return (
                .warning,
                "claiming the lease without its advisory lock: another session has held the lock for a long time, and cannot be terminated (`sidecar lease` shows it)"
            )
        case .lockHeldByStranger:
            return (
                .warning,
                "a session that is not in the record holds the advisory lock: waiting for it (`sidecar lease` shows which)"
            )
        case .holdersTerminated(let count):
            return (.warning, "terminated \(count) session(s) that held the lock of a lease that ran out")
        case .sessionsFenced(let count):
            return (.warning, "terminated \(count) database session(s) of an earlier child")
        case .resumed(let epoch): return (.info, "resumed the lease through a new session, epoch \(epoch)")
        case .tookUpOwnRecord(let epoch):
            return (.info, "leads again: the record still names this sidecar, epoch \(epoch)")
        case .starting: return (.info, "starting the command")
        case .started(_, let pid): return (.info, "the command runs, pid \(pid)")
        case .cannotExecute(let errno):
            let hint = errno == ENOENT ? " (is the interpreter in its first line there?)" : ""
            return (.error, "the command cannot be executed: \(errorText(errno))\(hint); giving the lease up")
        case .cannotFork(let errno): return (.error, "no process could be made for the command: \(errorText(errno))")
        case .childExited(.code(let code), let asked):
            return (code == 0 || asked ? .info : .warning, "the command ended with code \(code)")
        case .childExited(.signal(let number), let asked):
            return (asked ? .info : .warning, "the command was killed by signal \(number)")
        case .restarting(let after, let attempt):
            return (.warning, "restart \(attempt) of the command in \(Durations.text(after))")
        case .gaveUp(let cooldown):
            return (
                .error,
                "the command failed too often: giving the lease up and staying out for \(Durations.text(cooldown))"
            )
        case .draining(let grace):
            return (.info, "stopping: SIGTERM to the command, which has \(Durations.text(grace)) to end")
        case .killing(let reason): return (.warning, "killing the process tree: \(reason.text)")
        case .treeEmpty: return (.info, "the process tree is empty")
        case .lost(.deadlinePassed):
            return (.error, "lost the lease: no renewal succeeded in time; killing the process tree")
        case .lost(.recordTaken):
            return (.error, "lost the lease: its record was changed or removed; killing the process tree")
        case .lost(.sessionLost):
            return (.error, "lost the session (--on-session-loss kill); killing the process tree")
        case .released: return (.info, "released the lease")
        case .releaseRefused: return (.warning, "could not release the lease: it runs out by its TTL")
        case .starving(let shortage):
            return (.warning, "\(starvation(shortage)): the command may live shorter without a renewal; \(Self.remedy)")
        case .starved(let shortage, let pause):
            return (
                .error,
                "\(starvation(shortage)), too much for that TTL: the command could not be killed before another node starts its own; giving the lease up and staying out for \(Durations.text(pause)); \(Self.remedy)"
            )
        case .cannotHold(let shortage):
            return (
                .error,
                "\(starvation(shortage)), too much for that TTL: the command could not be killed before another node starts its own; not claiming the lease while that lasts; \(Self.remedy)"
            )
        case .guardSilent: return (.error, "the guard does not answer: killing it")
        case .guardUndead:
            return (
                .error,
                "the guard was killed and does not end (is it traced, frozen, or in uninterruptible sleep?); nothing below it is alive, so this sidecar ends without waiting for it"
            )
        case .startHung(let after):
            return (
                .error,
                "the command has not been executed for \(Durations.text(after)) (is it on a file system that does not answer?): killing it"
            )
        case .leftBehind(let count, let processes):
            return (
                .warning,
                "the command left \(count) process\(count == 1 ? "" : "es") behind, killed now: \(names(processes, of: count))"
            )
        case .surviving(let processes):
            return (
                .error,
                "cannot kill \(names(processes, of: processes.count)): the kernel does not let it die (state D), or it runs as another user; the lease is not released while it lives"
            )
        case .abandoned:
            return (.error, "asked to stop: ending over processes that cannot be killed, without releasing the lease")
        case .guardLost: return (.error, "the guard is gone: killing what is left of the process tree")
        case .databaseUnusable(let reason): return (.error, reason)
        case .loginsRefused(let time):
            return (
                .error,
                "PostgreSQL has refused every login for \(Durations.text(.seconds(time.components.seconds))): exiting, so that a restart brings today's credentials (--auth-failure-limit)"
            )
        }
    }

    private func names(_ processes: [SeenProcess], of count: Int) -> String {
        let names = processes.map { process in
            let name = process.name.isEmpty ? "(hidden)" : oneLine(process.name, longest: 60)
            return "\(name) (pid \(process.pid), state \(Character(Unicode.Scalar(process.state))))"
        }
        return names.joined(separator: ", ") + (count > names.count ? ", ..." : "")
    }

    private static let remedy = "raise the CPU limit or --ttl, or run fewer processes"

    private func starvation(_ shortage: Shortage) -> String {
        let strain = shortage.strain
        let killing = strain.killing
        let headline = shortage.lateness >= killing ? "the processor comes late" : "there is too much to kill in time"
        var text = "\(headline): lateness \(shortage.lateness.milliseconds)ms"
        if killing > .zero {
            text +=
                ", and killing \(strain.tasks) processes and threads with \(strain.memory / 1_000_000) MB would take about \(killing.milliseconds)ms of \(strain.processors)m CPU"
        }
        return text + ", at a TTL of \(Durations.text(shortage.ttl))"
    }

    private func standby(_ record: Record, wait: Duration) -> String {
        if record.holder == nil {
            return "standing by: nobody holds the lease; claiming it if nothing changes for \(Durations.text(wait))"
        }
        if record.holder == identity.instance {
            return
                "standing by: the record still names this sidecar, but is not its own to take up; claiming it if nothing "
                + "changes for \(Durations.text(wait))"
        }
        return
            "standing by: \(record.node ?? "somebody") leads, epoch \(record.epoch); a silence of \(Durations.text(wait)) ends that"
    }
}

extension KillReason {
    /// For people.
    var text: String {
        switch self {
        case .guardDeadline: "the guard's deadline passed"
        case .starved: "while it can still be dead in time"
        case .stoppedAtOnce: "asked to stop at once"
        case .guardTimerFailed: "the guard cannot set its timer"
        case .graceOver: "still running after the grace period"
        }
    }
}

extension RefusalReason {
    /// For people.
    package var text: String {
        switch self {
        case .server(let reason): reason
        case .recordHidden:
            "the lease's record was made and is not shown: a row filter (row-level security) hides it"
        }
    }
}
