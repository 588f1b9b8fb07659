// One session on its way through the network: messages keep their order, may be held up by a cut, arrive long after the
// client gave up, or never. The two ends can disagree about whether it still exists.

import Clock
import Lease

@testable import GuardModel

final class Connection: Alarmed {
    unowned(unsafe) let world: World
    let id: SessionID
    let keeper: Keeper
    let host: Host
    /// The client's end.
    private(set) var isOpen = true
    private(set) var backend: Backend?
    private var lastToServer: Time = 0
    private var lastToClient: Time = 0
    private var heldToServer: [Agenda.Step] = []
    private var heldToClient: [Agenda.Step] = []
    /// Counts what the client waits for, so that a timeout of something answered is void.
    private var waits = 0
    /// What the client says when what it now waits for does not come.
    private var complaint = ""

    init(_ id: SessionID, of keeper: Keeper) {
        self.id = id
        self.keeper = keeper
        world = keeper.world
        host = keeper.host
    }

    // MARK: The client's end

    func connect() {
        limit(keeper.timing.life, "no connection")
        toServer { [self] in
            let server = world.server
            guard server.isRunning else { return server.isSilent ? () : reset(after: 0) }
            let limit =
                switch world.twin {
                case .idleTimeoutBelowPoll: keeper.ttl / 8
                case .idleTimeoutBelowTTL: keeper.ttl / 2
                default: keeper.ttl * 3 / 2
                }
            backend = server.accept(self, idleLimit: limit)
            answer(.sessionOpened(id))
        }
    }

    func ask(_ statement: Statement) {
        limit(keeper.timing.callLimit, "no answer")
        toServer { [self] in
            guard let backend, backend.isAlive else {
                return world.server.isRunning || !world.server.isSilent ? reset(after: 0) : ()
            }
            let server = world.server
            guard server.slowness > 0 else { return execute(statement, on: backend, takes: 0) }
            let takes = world.random.time(0, server.slowness)
            world.after(takes) { [self] in execute(statement, on: backend, takes: takes) }
        }
    }

    private func execute(_ statement: Statement, on backend: Backend, takes: Time) {
        guard backend.isAlive else { return }
        let server = world.server
        // statement_timeout: three quarters of the client's limit.
        let tooLong = takes > keeper.timing.callLimit.nanoseconds * 3 / 4
        if tooLong || (server.failures > 0 && world.random.chance(server.failures)) {
            backend.lastUsed = world.now
            if world.random.chance(0.5) { server.failHalfway(statement, from: backend) }
            return answer(.statementFailed(id, reason: "refused"))
        }
        answer(.reply(id, server.execute(statement, from: backend, of: keeper)))
    }

    private func answer(_ event: Event) {
        toClient { connection in
            connection.waits += 1
            connection.keeper.hear(event, through: connection)
        }
    }

    func notified() { if isOpen { keeper.hear(.notified, through: self) } }

    private func limit(_ limit: Duration, _ reason: String) {
        waits += 1
        complaint = reason
        world.at(host.time(of: host.clock(at: world.now) + limit), ring: self, mark: waits)
    }

    /// The limit of a wait is over.
    func ring(_ wait: Int) {
        guard isOpen, waits == wait else { return }
        close(byFault: true)
        keeper.hear(.sessionLost(id, reason: complaint), through: self)
    }

    /// The client closes, or its process is gone and the kernel does. `byFault`: not because the protocol wants it.
    func close(byFault: Bool) {
        guard isOpen else { return }
        isOpen = false
        toServer { [self] in
            if let backend { world.server.end(backend, byFault: byFault, telling: false) }
        }
    }

    /// The client's end is gone and nobody says so to the server: power loss, or a reset on the way.
    func vanish() { isOpen = false }

    /// The client learns that the session is no more.
    func reset(after delay: Time) {
        toClient(after: delay) { connection in
            connection.isOpen = false
            connection.keeper.hear(.sessionLost(connection.id, reason: "reset"), through: connection)
        }
    }

    // MARK: The way

    private func toServer(_ step: @escaping Agenda.Step) {
        guard !host.isCutTo else { return heldToServer.append(step) }
        lastToServer = max(lastToServer, world.now + world.delay(of: host, isReply: false))
        world.at(lastToServer, step)
    }

    func toClient(after delay: Time = 0, _ step: @escaping (Connection) -> Void) {
        let arrival = { [self] in if isOpen { step(self) } }
        guard !host.isCutFrom else { return heldToClient.append(arrival) }
        lastToClient = max(lastToClient, world.now + delay + world.delay(of: host, isReply: true))
        world.at(lastToClient, arrival)
    }

    /// The network is back: what was held up arrives late, unless the client's kernel has given up as well.
    func flush() {
        if !host.isCutTo, !heldToServer.isEmpty {
            let held = heldToServer
            heldToServer = []
            if isOpen || world.random.chance(0.5) { for step in held { toServer(step) } }
        }
        if !host.isCutFrom, !heldToClient.isEmpty {
            let held = heldToClient
            heldToClient = []
            for step in held {
                lastToClient = max(lastToClient, world.now + world.delay(of: host, isReply: true))
                world.at(lastToClient, step)
            }
        }
    }
}
