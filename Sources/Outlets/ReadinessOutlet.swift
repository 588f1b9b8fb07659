// Keeps the readiness files, from a thread of its own: a hanging disk must not stop the lease loop. It only ever writes
// the newest picture; one that is never written makes the file stale, which is what a reader should see then.

import Clock
import Glibc
import Lease
import Text

/// The outlet that writes the readiness files.
package struct ReadinessOutlet: Outlet {
    private let file: ReadyFile
    /// Held for as long as the files are written.
    private let lock: ReadyFileLock
    private let identity: Identity
    private let ttl: Duration
    private let onError: @Sendable (String) -> Void
    private let bootID = ReadyFile.bootID()
    private let timeNamespace = ReadyFile.timeNamespace()
    private var complaint: String?
    private var wasReady = false

    /// `ttl`: how long the loop counts as turning after a picture. `onError` gets one line when a file cannot be
    /// written, once until it can be again.
    package init(
        file: ReadyFile, lock: ReadyFileLock, identity: Identity, ttl: Duration,
        onError: @escaping @Sendable (String) -> Void
    ) {
        self.file = file
        self.lock = lock
        self.identity = identity
        self.ttl = ttl
        self.onError = onError
    }

    package mutating func take(_ picture: Picture) {
        let problem = write(picture)
        if let problem, problem != complaint { onError(problem) }
        complaint = problem
    }

    /// Removes both files.
    package mutating func close() {
        // What is another sidecar's by now is not ours to remove.
        if (try? lock.keep()) != nil {
            file.remove()
            file.live.remove()
        }
        lock.release()
    }

    /// - Returns: why it could not be written.
    private mutating func write(_ picture: Picture) -> String? {
        do {
            try lock.keep()
        } catch {
            return "\((error as? Failure)?.message ?? "\(error)"); this sidecar no longer writes it"
        }
        var problem: Int32 = 0
        // Without a guard the loop turns, but the sidecar is beyond hope.
        if picture.snapshot.isGuarded {
            problem = file.live.write(state(picture, until: picture.at + ttl))
        } else {
            file.live.remove()
        }
        if picture.snapshot.isReady {
            problem = max(problem, file.write(state(picture, until: picture.snapshot.validUntil)))
            wasReady = true
        } else if wasReady || problem == 0 {
            file.remove()
            wasReady = false
        }
        guard problem != 0 else { return nil }
        return
            "cannot write the readiness file \(file.path): \(errorText(problem)); probes fail until it can be written"
    }

    private func state(_ picture: Picture, until: Instant) -> ReadyState {
        let snapshot = picture.snapshot
        return ReadyState(
            role: snapshot.role.code, lease: identity.lease, node: identity.node, instance: identity.instance.rawValue,
            epoch: snapshot.epoch?.rawValue, healthy: snapshot.isHealthy, deadline: until.nanoseconds, bootID: bootID,
            timeNamespace: timeNamespace, pid: getpid(), version: Version.current,
            // Why it is not ready, for the probes.
            trouble: snapshot.unready.map { oneLine($0.text, longest: 1000) })
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
