// The metastore: one PostgreSQL as far as the statements of Metastore/Statements/ can tell. One row, one advisory lock,
// backends that hold it, a wall clock, a start time that names each run, and a replica that may lag.

import Clock
import Lease

@testable import GuardModel

/// One session as the server has it.
final class Backend {
    /// Nil for a stranger's.
    let connection: Connection?
    /// Its name, which never comes back.
    let id: BackendID
    /// Works without end, or belongs to somebody whose sessions a sidecar may not end.
    var isActive = false
    var isOutOfReach = false
    var isAlive = true
    var lastUsed: Time
    let idleLimit: Time

    init(connection: Connection?, number: Int32, at now: Time, idleLimit: Time) {
        self.connection = connection
        id = BackendID(pid: number, startedAt: now)
        lastUsed = now
        self.idleLimit = idleLimit
    }
}

final class Server {
    struct Row {
        var record: Record
        /// The holder's session; an object is one backend of one run of the server, as (pid, backend_start, server) is.
        var backend: Backend?
        var renewedAt: Int64
    }

    /// What survives a restart.
    struct Stored {
        var row: Row?
        /// The highest epoch in the history.
        var history: Int64 = 0
    }

    unowned(unsafe) let world: World
    private(set) var id = ServerID(1)
    private(set) var isRunning = true
    /// Down in a way that nobody is told: the machine is gone.
    private(set) var isSilent = false
    var stored = Stored()
    /// The last states, oldest first: what a lagging replica may have.
    private var commits: [Stored] = [Stored()]
    private(set) var backends: [Backend] = []
    private var backendsEver: Int32 = 0
    var lockHolder: Backend?
    /// Added to the server's wall clock, in milliseconds.
    var wallStep: Int64 = 0
    /// How long a statement may take, at most.
    var slowness: Time = 0
    /// The chance that a statement fails.
    var failures = 0.0
    var losesNotifications = false
    /// Whether a commit is safe when it is acknowledged: of sessions that pin their setting it always is.
    var isSynchronous = true

    init(world: World) { self.world = world }

    /// Unix milliseconds by the server's wall clock.
    var wall: Int64 { 1_000_000_000 + world.now / millisecond + wallStep }

    // MARK: Sessions

    func accept(_ connection: Connection, idleLimit: Time) -> Backend {
        backendsEver += 1
        let backend = Backend(connection: connection, number: backendsEver, at: world.now, idleLimit: idleLimit)
        backends.append(backend)
        watchIdleness(of: backend)
        return backend
    }

    private func watchIdleness(of backend: Backend) {
        world.at(backend.lastUsed + backend.idleLimit) { [self] in
            guard backend.isAlive else { return }
            if world.now >= backend.lastUsed + backend.idleLimit {
                world.trace { "server: idle session of \(backend.connection?.keeper.name ?? "a stranger") ended" }
                end(backend, byFault: true)
            } else {
                watchIdleness(of: backend)
            }
        }
    }

    /// The backend is gone, and with it its lock. `byFault`: not because its own sidecar wanted it.
    func end(_ backend: Backend, byFault: Bool, telling: Bool = true) {
        guard backend.isAlive else { return }
        backend.isAlive = false
        backends.removeAll { $0 === backend }
        if lockHolder === backend { lockHolder = nil }
        guard let connection = backend.connection else { return }
        if byFault { world.judge.backendEnded(of: connection.keeper) }
        if telling { connection.reset(after: 0) }
    }

    // MARK: The server's own life

    func stop(silently: Bool) {
        guard isRunning else { return }
        isRunning = false
        isSilent = silently
        for backend in backends { end(backend, byFault: true, telling: !silently) }
        lockHolder = nil
    }

    /// One backend is killed: the server ends all sessions and recovers under the same start time. What was acknowledged
    /// is there, unless a reload of its settings has lowered synchronous_commit for living sessions.
    func crash(losing lost: Int) {
        guard isRunning else { return }
        for backend in backends { end(backend, byFault: true) }
        lockHolder = nil
        guard lost > 0, !isSynchronous else { return }
        rollBack(by: lost)
    }

    /// How many commits ago the record was the one that somebody out of touch saw last: the worst that a replica can show.
    func lag(showing record: Record) -> Int? {
        guard let index = commits.lastIndex(where: { $0.row?.record == record }) else { return nil }
        return commits.count - 1 - index
    }

    /// How many commits ago that epoch was not claimed yet, and the record had a TTL below that one.
    func lag(before epoch: Epoch, ttlBelow ttl: Duration) -> Int? {
        let index = commits.lastIndex { commit in
            guard let record = commit.row?.record else { return false }
            return record.epoch < epoch && record.ttl < ttl
        }
        guard let index else { return nil }
        return commits.count - 1 - index
    }

    /// A new run on the same data, or on those that a replica had `lag` commits ago.
    func start(lag: Int = 0) {
        guard !isRunning else { return }
        id = ServerID(id.rawValue + 1)
        isRunning = true
        isSilent = false
        guard lag > 0 else { return }
        rollBack(by: lag)
    }

    /// The last commits are lost.
    private func rollBack(by lag: Int) {
        commits.removeLast(min(lag, commits.count - 1))
        let before = stored.row?.record.epoch.rawValue ?? 0
        let record = stored.row?.record
        stored = commits[commits.count - 1]
        let after = stored.row?.record.epoch.rawValue ?? 0
        if stored.row?.record != record, isSynchronous { world.tookEffect(.failover) }
        world.trace { "server: what is left has epoch \(after) instead of \(before)" }
        world.judge.forget(above: after)
    }

    func commit() {
        commits.append(stored)
        if commits.count > 160 { commits.removeFirst(40) }
    }

    // MARK: Hands

    /// Somebody edits the table.
    func edit(_ change: (inout Stored) -> Void) {
        change(&stored)
        commit()
    }

    /// A stranger takes the lock, if it is free.
    func steal() -> Backend? {
        guard isRunning, lockHolder == nil else { return nil }
        backendsEver += 1
        let backend = Backend(connection: nil, number: backendsEver, at: world.now, idleLimit: .max / 4)
        backends.append(backend)
        lockHolder = backend
        return backend
    }
}
