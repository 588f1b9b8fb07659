// Looks over the sidecars' shoulders in pg_stat_activity while a scenario runs: none of their sessions may sit in a
// transaction, wait for a lock in the server, or hold back vacuum. Seen in two samples in a row, in the same transaction,
// is a fault; in one alone it was a statement being carried out. Vacuum takes three: every statement holds it back, and one
// on a busy machine may last for two.

import Foundation
import Synchronization

/// Samples pg_stat_activity of one database, four times a second, on a thread of its own.
public final class ActivityWatcher: Sendable {
    private struct Session: Sendable {
        let key: String
        /// In how many samples in a row each was seen.
        let complaints: [String: Int]
        let description: String
    }
    private struct Shared {
        var faults: [String] = []
        var looks = 0
        var sessionsSeen = 0
        var ended = false
    }
    private let shared = Mutex(Shared())
    private let done = DispatchSemaphore(value: 0)

    /// Watches the sessions in `database` whose name is LIKE `names` and is not LIKE `except`.
    /// `url`: a session of its own, as superuser (others do not see everything).
    public init(url: String, database: String, names: String = "sidecar%", except: String) {
        let sql = """
            SELECT pid || ' of ' || backend_start || ' in ' || coalesce(xact_start::text, '-'),
                state LIKE 'idle in transaction%', wait_event_type = 'Lock', backend_xmin IS NOT NULL,
                format('%s %s, %s %s, xmin %s, %s', application_name, state, wait_event_type, wait_event,
                    backend_xmin, query)
            FROM pg_stat_activity
            WHERE datname = '\(database)' AND application_name LIKE '\(names)' AND NOT application_name LIKE '\(except)'
            """
        startThread("watcher") { [self] in
            watch(url, sql)
            done.signal()
        }
    }

    /// What a session must not do, and in how many samples in a row it is a fault.
    private static let rules = [
        (name: "idle in transaction", samples: 2), (name: "waiting for a lock in the server", samples: 2),
        (name: "holding back vacuum", samples: 3),
    ]

    /// The samples taken so far.
    public var looks: Int { shared.withLock { $0.looks } }

    private func watch(_ url: String, _ sql: String) {
        var session: DirectSession?
        var before: [String: Session] = [:]
        while !shared.withLock({ $0.ended }) {
            usleep(250_000)
            if session == nil { session = try? DirectSession(url, applicationName: "watcher") }
            guard let rows = try? session?.rows(sql) else {
                // The server is down or restarting, as some scenarios want it: nothing to compare with.
                session = nil
                before = [:]
                continue
            }
            var now: [String: Session] = [:]
            for row in rows {
                guard let key = row[0], let description = row[4] else { continue }
                var complaints: [String: Int] = [:]
                for (rule, value) in zip(Self.rules, row[1...3]) where value == "t" {
                    complaints[rule.name] = (before[key]?.complaints[rule.name] ?? 0) + 1
                }
                now[key] = Session(key: key, complaints: complaints, description: description)
            }
            let faults = now.values.flatMap { session in
                Self.rules.filter { session.complaints[$0.name, default: 0] >= $0.samples }.map {
                    "\($0.name) in \($0.samples) samples: \(session.key): \(session.description)"
                }
            }
            shared.withLock { [seen = now.count] in
                $0.looks += 1
                $0.sessionsSeen += seen
                $0.faults += faults
            }
            before = now
        }
    }

    /// Ends the watch. What was found, and how many sessions were looked at: none at all is no evidence.
    public func end() -> (faults: [String], sessionsSeen: Int) {
        shared.withLock { $0.ended = true }
        done.wait()
        return shared.withLock { ($0.faults, $0.sessionsSeen) }
    }
}
