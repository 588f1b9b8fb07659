// The outlet that writes the log. Each state change of the machine becomes one line. A problem with the database is
// logged at once, and the same problem again after a minute at the earliest.

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
    /// The problems logged since the last usable session, each with its time. One outage can show as two problems in
    /// turn, for example a reset and an unexpected end. So the last problem alone is not enough.
    private var problems: [String: Instant] = [:]
    /// The owners of sessions that this leadership could not terminate, as logged. Their number is left out, because it
    /// changes with every renewal.
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
            log.info("\(origin) has new credentials: using them")
        case .listenerProblem(let text): log.warning("\(text)")
        case .askedToStop(let signal): log.info("got \(signal)")
        case .ending(let exit, let code): log.info("exiting with code \(code): \(exit.text)")
        }
    }

    /// Logs a problem that repeats while the database is away: at once if it is new, then once a minute.
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

    /// R8: sessions of an earlier child that this role may not terminate. One line per leadership and set of owners.
    private mutating func unfenced(_ unfenced: Unfenced, _ facts: SessionFacts) {
        guard self.unfenced.insert("\(unfenced.roles) \(unfenced.superusers)").inserted else { return }
        var reasons: [String] = []
        if !unfenced.roles.isEmpty {
            // A login made for one node, which will expire (Vault), is no role to grant to or to connect the command
            // as.
            let connect = facts.assumed == nil ? ", or let the command connect as \"\(facts.login)\"" : ""
            reasons.append(
                "they belong to \(unfenced.roles), and \"\(facts.user)\" has no right to terminate them: GRANT pg_signal_backend TO \"\(facts.grantee)\"\(connect)"
            )
        }
        if !unfenced.superusers.isEmpty {
            reasons.append(
                "they belong to \(unfenced.superusers), and only a superuser may terminate a superuser's sessions: let the command connect as an ordinary role"
            )
        }
        log.warning(
            "cannot terminate \(unfenced.sessions) database session(s) of an earlier run of the command, which may still write: \(reasons.joined(separator: "; "))"
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
            return (.error, "not ready, because this sidecar could not take over the lease: \(reason.text)")
        case .noLongerRefused: return (.info, "ready again: PostgreSQL no longer refuses this sidecar's statements")
        case .recordCreated(let wait):
            return (
                .info,
                "created the lease's record, which was missing; waiting \(Durations.text(wait)) (one TTL) before the first claim, because the leader of a lost record could still be running"
            )
        case .standby(let record, let wait): return (.info, standby(record, wait: wait))
        case .suspended:
            return (
                .warning,
                "the lease is suspended: no sidecar may claim it until its column suspended in the table sidecar.lease is false again"
            )
        case .claimed(let epoch, let basis, let from): return (.info, claimed(epoch, basis, from))
        case .lockWaived:
            return (
                .warning,
                "claiming the lease without its advisory lock: another session has held the lock for a long time and cannot be terminated; `sidecar lease` shows that session"
            )
        case .lockHeldByStranger:
            return (
                .warning,
                "a session that the lease's record does not name holds the advisory lock: waiting until the lock is free; `sidecar lease` shows that session"
            )
        case .holdersTerminated(let count):
            return (.warning, "terminated \(count) database session(s) that held the lock of the expired lease")
        case .sessionsFenced(let count):
            return (.warning, "terminated \(count) database session(s) of an earlier run of the command")
        case .resumed(let epoch): return (.info, "resumed the lease through a new session, epoch \(epoch)")
        case .tookUpOwnRecord(let epoch):
            return (.info, "leads again: the record still names this sidecar, epoch \(epoch)")
        case .starting: return (.info, "starting the command")
        case .started(_, let pid): return (.info, "the command runs, pid \(pid)")
        case .cannotExecute(let errno):
            let hint = errno == ENOENT ? " (does the interpreter in its first line exist?)" : ""
            return (
                .error, "the command cannot be executed: \(errorText(errno))\(hint); releasing the lease and exiting"
            )
        case .cannotFork(let errno): return (.error, "cannot create a process for the command: \(errorText(errno))")
        case .childExited(.code(let code), let asked):
            return (code == 0 || asked ? .info : .warning, "the command ended with code \(code)")
        case .childExited(.signal(let number), let asked):
            return (asked ? .info : .warning, "the command was killed by signal \(number)")
        case .restarting(let after, let attempt):
            return (.warning, "restarting the command in \(Durations.text(after)) (restart \(attempt))")
        case .gaveUp(let cooldown):
            return (
                .error,
                "the command failed too often: releasing the lease, and not claiming it for \(Durations.text(cooldown)) (--cooldown)"
            )
        case .draining(let grace):
            return (
                .info, "stopping: sending SIGTERM to the command, which has \(Durations.text(grace)) to end (--grace)"
            )
        case .killing(let reason): return (.warning, "killing the process tree: \(reason.text)")
        case .treeEmpty: return (.info, "the process tree is empty")
        case .lost(.deadlinePassed):
            return (.error, "lost the lease: no renewal succeeded in time; killing the process tree")
        case .lost(.recordTaken):
            return (.error, "lost the lease: its record was changed or removed; killing the process tree")
        case .lost(.sessionLost):
            return (
                .error,
                "gave up the lease: its database session broke, and --on-session-loss is kill; killing the process tree"
            )
        case .released: return (.info, "released the lease")
        case .releaseRefused: return (.warning, "could not release the lease: another node can lead only after the TTL")
        case .starving(let shortage):
            return (
                .warning,
                "\(starvation(shortage)): if renewals fail, the command is killed earlier than usual; \(Self.remedy)"
            )
        case .starved(let shortage, let pause):
            return (
                .error,
                "\(starvation(shortage)), which is too short: the command might not be dead before another node starts it; releasing the lease, and not claiming it for \(Durations.text(pause)); \(Self.remedy)"
            )
        case .cannotHold(let shortage):
            return (
                .error,
                "\(starvation(shortage)), which is too short: the command might not be dead before another node starts it; not claiming the lease until this improves; \(Self.remedy)"
            )
        case .guardSilent: return (.error, "the guard process does not answer: killing it and the process tree")
        case .guardUndead:
            return (
                .error,
                "the guard process got SIGKILL but does not end (is it traced, frozen, or in uninterruptible sleep?); every process below it is dead, so this sidecar exits without waiting for it"
            )
        case .startHung(let after):
            return (
                .error,
                "the command did not start within \(Durations.text(after)) (is its file on a file system that does not answer?): killing this attempt"
            )
        case .leftBehind(let count, let processes):
            let which = processes.isEmpty ? "" : ": \(names(processes, of: count))"
            return (
                .warning,
                "the command ended and left \(count) process\(count == 1 ? "" : "es") running, now killed\(which)"
            )
        case .surviving(let processes):
            return (
                .error,
                "cannot kill \(names(processes, of: processes.count)): in uninterruptible sleep (state D), or owned by another user; the lease is not released before every process is dead"
            )
        case .abandoned:
            return (
                .error,
                "exiting as asked, although some processes cannot be killed; the lease is not released, so another node can lead only after the TTL"
            )
        case .guardLost: return (.error, "the guard process ended unexpectedly: killing the rest of the process tree")
        case .databaseUnusable(let reason): return (.error, reason)
        case .loginsRefused(let time):
            return (
                .error,
                "PostgreSQL refused every login for \(Durations.text(.seconds(time.components.seconds))) (--auth-failure-limit): exiting, so that a restart brings the current credentials"
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
        let headline = shortage.lateness >= killing ? "too little processor time" : "too many processes to kill in time"
        var text = "\(headline): the guard process was \(shortage.lateness.milliseconds)ms late"
        if killing > .zero {
            text +=
                ", and killing \(strain.tasks) processes and threads with \(strain.memory / 1_000_000) MB would take about \(killing.milliseconds)ms at \(strain.processors)m CPU"
        }
        return text + "; the TTL is \(Durations.text(shortage.ttl))"
    }

    /// From whom, after how long a silence, and why as far as known.
    private func claimed(_ epoch: Epoch, _ basis: ClaimBasis, _ from: Predecessor) -> String {
        let node = from.node.map { oneLine($0) } ?? "the last leader"
        let silence = Durations.age(from.silence)
        switch basis {
        case .released: return "claimed the released lease, epoch \(epoch): \(node) released it"
        case .unclaimed: return "claimed the lease, which no sidecar held, epoch \(epoch)"
        case .expired:
            let reason =
                switch from.trace {
                case .none: ""
                case .sessionEnded: "; its database session had ended"
                case .sessionThere: "; its database session still held the lock: it hung, or lost the database"
                case .serverRestarted: "; PostgreSQL has been restarted since"
                }
            return
                "claimed the lease after its TTL ran out, epoch \(epoch): \(node) had not renewed for \(silence)\(reason)"
        }
    }

    private func standby(_ record: Record, wait: Duration) -> String {
        if record.holder == nil {
            return
                "standing by: no sidecar holds the lease; claiming it if its record does not change for \(Durations.text(wait))"
        }
        if record.holder == identity.instance {
            return
                "standing by: the record still names this sidecar as leader, but this sidecar may not continue that leadership; "
                + "claiming the lease if its record does not change for \(Durations.text(wait))"
        }
        return
            "standing by: \(record.node ?? "another sidecar") leads, epoch \(record.epoch); claiming the lease if it is not renewed for \(Durations.text(wait))"
    }
}

extension KillReason {
    /// For people.
    var text: String {
        switch self {
        case .guardDeadline: "the guard's deadline passed without a renewal"
        case .starved: "a later kill might not finish before another node starts the command"
        case .stoppedAtOnce: "a second stop signal asks for it"
        case .guardTimerFailed: "the guard process cannot set the timer for its deadline"
        case .graceOver: "still running after the grace period (--grace)"
        }
    }
}

extension Exit {
    /// For people.
    var text: String {
        switch self {
        case .stopped(killed: false): "stopped as asked"
        case .stopped(killed: true): "stopped as asked, but the command had to be killed"
        case .childEnded: "the command ended, and --once is set"
        case .cannotExecute: "the command cannot be executed"
        case .guardLost: "the guard process was lost"
        case .loginsRefused: "PostgreSQL refused every login"
        case .databaseUnusable: "the database cannot be used (the error above says why)"
        }
    }
}

extension RefusalReason {
    /// For people.
    package var text: String {
        switch self {
        case .server(let reason): reason
        case .recordHidden:
            "the lease's record was created but cannot be read: a row filter (row-level security) hides it from this role"
        }
    }
}
