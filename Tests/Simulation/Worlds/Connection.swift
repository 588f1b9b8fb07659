// One session on its way through the network: messages keep their order, may be held up by a cut, arrive long after the
// client gave up, or never. The two ends can disagree about whether it still exists.

import Clock
import Lease

@testable import GuardModel

final class Connection: Alarmed {
    unowned(unsafe) let world: World
    let keeper: Keeper
    let host: Host
    /// The client's end.
    private(set) var isOpen = true
    private(set) var backend: Backend?

    /// What the client's end sends.
    private enum Request {
        case connect
        case ask(Statement)
        case close(byFault: Bool)
    }

    /// What the server's end sends.
    private enum Response {
        /// What the client waits for.
        case answer(SessionEnd.News, unfenced: Int)
        case notification
        /// The session is no more.
        case reset
    }

    private var toServer = Line<Request>()
    private var toClient = Line<Response>()
    private var heldToServer: [Request] = []
    private var heldToClient: [Response] = []
    private let serverBell = Bell()
    private let clientBell = Bell()

    init(of keeper: Keeper) {
        self.keeper = keeper
        world = keeper.world
        host = keeper.host
        for bell in [serverBell, clientBell] { bell.owner = self }
    }

    // MARK: The client's end

    func connect() { send(.connect) }

    func ask(_ statement: Statement) {
        // Its end is known to the kernel, and the client has not read it yet.
        guard isOpen else { return }
        send(.ask(statement))
    }

    private func connected() {
        let server = world.server
        guard server.isRunning else { return server.isSilent ? () : reset(after: 0) }
        let limit =
            switch world.twin {
            case .idleTimeoutBelowPoll: keeper.ttl / 8
            case .idleTimeoutBelowTTL: world.profile.shortestTTL / 2
            default: keeper.ttl * 3 / 2
            }
        let accepted = server.accept(self, idleLimit: limit)
        backend = accepted
        answer(.opened(accepted.id))
    }

    private func asked(_ statement: Statement) {
        guard let backend, backend.isAlive else {
            return world.server.isRunning || !world.server.isSilent ? reset(after: 0) : ()
        }
        let server = world.server
        guard server.slowness > 0 else { return execute(statement, on: backend, takes: 0) }
        let takes = world.random.time(0, server.slowness)
        world.felt(.statements)
        world.after(takes) { [self] in execute(statement, on: backend, takes: takes) }
    }

    private func execute(_ statement: Statement, on backend: Backend, takes: Time) {
        guard backend.isAlive else { return }
        let server = world.server
        // statement_timeout: three quarters of the client's limit.
        let tooLong = takes > keeper.timing.callLimit.nanoseconds * 3 / 4
        if tooLong || (server.failures > 0 && world.random.chance(server.failures)) {
            backend.lastUsed = world.now
            world.felt(.statements)
            if world.random.chance(0.5) { server.failHalfway(statement, from: backend) }
            let schemaLost = world.random.chance(0.1) ? "another schema" : nil
            return answer(.failed(reason: "refused", lasting: false, schemaLost: schemaLost))
        }
        let reply = server.execute(statement, from: backend, of: keeper)
        answer(.answered(reply), unfenced: server.unfenced(by: reply))
    }

    private func answer(_ news: SessionEnd.News, unfenced: Int = 0) { respond(.answer(news, unfenced: unfenced)) }

    func ring(_ bell: Bell) {
        if bell === serverBell {
            arrived(toServer.receive(through: world, bell))
        } else {
            arrived(toClient.receive(through: world, bell))
        }
    }

    /// The client closes, or its process is gone and the kernel does. `byFault`: not because the protocol wants it.
    func close(byFault: Bool) {
        guard isOpen else { return }
        isOpen = false
        send(.close(byFault: byFault))
    }

    /// The client's end is gone and nobody says so to the server: power loss, or a reset on the way.
    func vanish() { isOpen = false }

    /// The world is over.
    func forget() { backend = nil }

    /// The client learns that the session is no more.
    func reset(after delay: Time) { respond(.reset, after: delay) }

    /// The server tells of a change that somebody else made.
    func notify() { respond(.notification) }

    // MARK: The way

    private func send(_ request: Request) {
        guard !host.isCutTo else {
            world.felt(.network)
            return heldToServer.append(request)
        }
        toServer.send(request, at: world.now + world.delay(of: host, isReply: false), through: world, serverBell)
    }

    private func arrived(_ request: Request) {
        switch request {
        case .connect: connected()
        case .ask(let statement): asked(statement)
        case .close(let byFault): if let backend { world.server.end(backend, byFault: byFault, telling: false) }
        }
    }

    private func respond(_ response: Response, after delay: Time = 0) {
        guard !host.isCutFrom else {
            world.felt(.network)
            return heldToClient.append(response)
        }
        let arrival = world.now + delay + world.delay(of: host, isReply: true)
        toClient.send(response, at: arrival, through: world, clientBell)
    }

    private func arrived(_ response: Response) {
        guard isOpen else { return }
        switch response {
        case .answer(let news, let unfenced): keeper.session.arrived(news, through: self, unfenced: unfenced)
        case .notification: keeper.session.notified(through: self)
        case .reset:
            isOpen = false
            keeper.session.arrived(.lost(reason: "reset", .other), through: self)
        }
    }

    /// The network is back: what was held up arrives late, unless the client's kernel has given up as well.
    func flush() {
        if !host.isCutTo, !heldToServer.isEmpty {
            let held = heldToServer
            heldToServer = []
            if isOpen || world.random.chance(0.5) { for request in held { send(request) } }
        }
        if !host.isCutFrom, !heldToClient.isEmpty {
            let held = heldToClient
            heldToClient = []
            for response in held { respond(response) }
        }
    }
}
