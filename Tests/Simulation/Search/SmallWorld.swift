// A small world: two sidecars with real lease machines, one lease, a guard for each, and nothing that is left to chance. Its state
// is a value, so that it can be copied at every choice and remembered. What may happen next is a list of steps; a search takes
// them all. Time goes from one due instant to the next. Without a fault a message takes no time.

import Clock
import Orders

@testable import Lease

/// Something that may happen next. A fault costs one of the budget; everything else is free.
enum Step: Hashable {
    /// The fresh request of a node comes to the server, is carried out and answered, all at once.
    case exchange(Int)
    /// The keeper has its turn, because something is due.
    case turn(Int)
    /// The guard's deadline has come.
    case deadline(Int)
    /// Nothing is due: time goes to where something is.
    case wait
    /// What was late comes after all.
    case lateRequest(Int)
    case lateReply(Int)
    /// A request whose sender has given up is carried out.
    case ghost(Int)
    case fault(Fault)
    case resumeKeeper(Int)
    case resumeGuard(Int)
    case heal(Int)
    /// A new sidecar in the place of one that ended.
    case restart(Int)
    /// A command that was asked to end does so.
    case childEnds(Int)
    /// The last process of a tree that is being killed is dead.
    case treeGone(Int)
}

enum Fault: Hashable {
    /// The fresh request is under way for long.
    case delayRequest(Int)
    /// It is carried out, and its answer is under way for long.
    case delayReply(Int)
    /// The session breaks before, or after it was carried out.
    case breakBefore(Int)
    case breakAfter(Int)
    /// Nothing gets from the node to the server any more, or back.
    case cut(Int)
    case stopKeeper(Int)
    case stopGuard(Int)
    case killKeeper(Int)
    case killGuard(Int)
    case endChild(Int)
    /// SIGTERM to the sidecar.
    case stopSidecar(Int)
    /// A new run of the server, on the same data.
    case restartServer
}

/// A rule that is broken, to see that the search would notice.
enum Sabotage: String, CaseIterable {
    case claimUncompared, resumeUncompared, marginZero, deadlineIgnored, silentGuardSpared, releaseBeforeEmpty
}

enum Process: Hashable { case running, stopped, dead }

/// The command and all that it started.
struct SmallTree: Hashable {
    var start: StartID
    var deadline: Instant
    /// It got SIGTERM, and ends whenever it likes.
    var isEnding = false
    /// It is being killed, and dead then at the latest, if its killer is not stopped.
    var deadAt: Instant?
    var killer = Killer.guardian

    enum Killer: Hashable { case guardian, keeper }
}

struct SmallNode: Hashable {
    enum Exchange: Hashable {
        /// Sent in this instant.
        case fresh(Statement)
        case lateRequest(Statement)
        case lateReply(Reply)
    }

    var machine: LeaseMachine
    var keeper = Process.running
    var guardian = Process.running
    var tree: SmallTree?
    var isCut = false
    var session: SessionID?
    var backend: BackendID?
    /// An attempt to connect that nobody answers, and when it is given up.
    var opening: Instant?
    var exchange: Exchange?
    /// When the exchange is given up.
    var givenUpAt: Instant?
    /// Waits for a stopped keeper.
    var news: [Event] = []
    /// Waits for a stopped guard.
    var orders: [Order] = []
    var claimed: Set<Epoch> = []
    /// The keeper, heir of a dead guard, is to say when nothing is left.
    var isHeir = false

    /// Whoever kills the tree runs.
    var isKilling: Bool {
        guard let tree, tree.deadAt != nil else { return false }
        return (tree.killer == .guardian ? guardian : keeper) == .running
    }
}

struct SmallServer: Hashable {
    var id = ServerID(1)
    var record: Record?
    var backends: Set<BackendID> = []
    var lock: BackendID?
    var backendsEver: Int32 = 0
    /// Late requests whose senders have given up: they may still be carried out.
    var ghosts: [Ghost] = []

    struct Ghost: Hashable {
        let node: Int
        let instance: InstanceID
        let statement: Statement
        let backend: BackendID
    }
}

struct SmallWorld: Hashable {
    static let timing: Timing = {
        guard let timing = try? Timing(ttl: .seconds(10), renewInterval: .seconds(4)) else {
            preconditionFailure("the durations of the small world contradict each other")
        }
        return timing
    }()
    /// How long killing a tree takes at most.
    static let killing = Duration.milliseconds(500)

    var now = Instant(nanoseconds: 1_000_000_000_000)
    var nodes: [SmallNode] = []
    var server = SmallServer()
    var faultsLeft: Int
    var instances = 0
    /// What must never be, once it has been.
    var violation: String?

    init(faults: Int, offset: Duration, broken: Sabotage?) {
        faultsLeft = faults
        // A record as a predecessor leaves it, so that the world need not begin with the wait of a first start.
        server.record = Record(
            epoch: Epoch(1), beat: 0, holder: nil, node: nil, ttl: Self.timing.ttl,
            renewInterval: Self.timing.renewInterval,
            released: true, suspended: false, server: server.id)
        nodes = [newNode(), newNode()]
        run(0, .tick, broken)
        now = now + offset
        run(1, .tick, broken)
    }

    private mutating func newNode() -> SmallNode {
        instances += 1
        let identity = Identity(lease: "l", node: "n", instance: InstanceID("i\(instances)"))
        let restarts = RestartPolicy(maxRestarts: 3, window: .seconds(60), cooldown: .seconds(20))
        let settings = LeaseMachine.Settings(
            identity: identity, timing: Self.timing, restarts: restarts, grace: .seconds(5))
        return SmallNode(machine: LeaseMachine(settings: settings, at: now))
    }

    // MARK: What may happen

    /// Every step that may come next.
    func steps() -> [Step] {
        var urgent: [Step] = []
        var faults: [Fault] = []
        for (index, node) in nodes.enumerated() {
            if case .fresh = node.exchange, node.keeper != .dead {
                urgent.append(.exchange(index))
                faults += [.delayRequest(index), .delayReply(index), .breakBefore(index), .breakAfter(index)]
            }
            if node.keeper == .running, due(index) <= now { urgent.append(.turn(index)) }
            if node.isKilling, let at = node.tree?.deadAt, at <= now { urgent.append(.treeGone(index)) }
            if node.guardian == .running, let tree = node.tree, tree.deadAt == nil, tree.deadline <= now {
                urgent.append(.deadline(index))
            }
        }
        if !urgent.isEmpty { return urgent + (faultsLeft > 0 ? faults.map(Step.fault) : []) }
        var steps: [Step] = [.wait]
        for (index, node) in nodes.enumerated() { steps += quietSteps(of: node, index) }
        for index in server.ghosts.indices { steps.append(.ghost(index)) }
        if faultsLeft > 0 { steps.append(.fault(.restartServer)) }
        return steps
    }

    private func quietSteps(of node: SmallNode, _ index: Int) -> [Step] {
        var steps: [Step] = []
        switch node.exchange {
        case .lateRequest: steps.append(.lateRequest(index))
        case .lateReply: steps.append(.lateReply(index))
        case .fresh, nil: break
        }
        if node.keeper == .stopped { steps.append(.resumeKeeper(index)) }
        if node.guardian == .stopped { steps.append(.resumeGuard(index)) }
        if node.isCut { steps.append(.heal(index)) }
        if node.guardian == .running, let tree = node.tree, tree.isEnding, tree.deadAt == nil {
            steps.append(.childEnds(index))
        }
        // At once, or as late as it may.
        if node.isKilling, node.tree?.deadAt == now + Self.killing { steps.append(.treeGone(index)) }
        if node.keeper == .dead, node.tree == nil { steps.append(.restart(index)) }
        guard faultsLeft > 0, node.keeper == .running else { return steps }
        if !node.isCut { steps.append(.fault(.cut(index))) }
        // Keeper and guard out of action together are beyond what is promised.
        if node.guardian == .running {
            steps.append(.fault(.stopKeeper(index)))
            steps.append(.fault(.killKeeper(index)))
            if node.tree != nil { steps += [.fault(.stopGuard(index)), .fault(.killGuard(index))] }
            if let tree = node.tree, tree.deadAt == nil { steps.append(.fault(.endChild(index))) }
        }
        if node.machine.stopping == nil { steps.append(.fault(.stopSidecar(index))) }
        return steps
    }

    /// When the keeper has to have its turn.
    private func due(_ index: Int) -> Instant {
        let node = nodes[index]
        guard node.keeper == .running else { return Instant(nanoseconds: .max) }
        return [node.machine.nextWake, node.opening, node.givenUpAt].compactMap { $0 }.min()
            ?? Instant(nanoseconds: .max)
    }

    // MARK: What happens

    mutating func take(_ step: Step, _ broken: Sabotage?) {
        switch step {
        case .exchange(let index):
            if case .fresh(let statement) = nodes[index].exchange { exchange(index, statement, broken) }
        case .turn(let index): turn(index, broken)
        case .deadline(let index): guardTicks(index, broken)
        case .wait: now = nextInstant()
        case .lateRequest(let index):
            if case .lateRequest(let statement) = nodes[index].exchange { exchange(index, statement, broken) }
        case .lateReply(let index):
            if case .lateReply(let reply) = nodes[index].exchange { answer(index, reply, broken) }
        case .ghost(let index):
            let ghost = server.ghosts.remove(at: index)
            if server.backends.contains(ghost.backend) {
                _ = execute(ghost.statement, ghost.node, ghost.instance, ghost.backend, broken)
            }
        case .fault(let fault):
            faultsLeft -= 1
            suffer(fault, broken)
        case .resumeKeeper(let index):
            nodes[index].keeper = .running
            let news = nodes[index].news
            nodes[index].news = []
            for event in news { run(index, event, broken) }
            turn(index, broken)
        case .resumeGuard(let index):
            nodes[index].guardian = .running
            guardTicks(index, broken)
            let orders = nodes[index].orders
            nodes[index].orders = []
            for order in orders { obey(index, order, broken) }
        case .heal(let index): nodes[index].isCut = false
        case .restart(let index):
            nodes[index] = newNode()
            run(index, .tick, broken)
        case .childEnds(let index): childEnds(index, .code(0), broken)
        case .treeGone(let index): treeGone(index, broken)
        }
        judge()
    }

    private func nextInstant() -> Instant {
        var next = Instant(nanoseconds: .max)
        for (index, node) in nodes.enumerated() {
            next = min(next, due(index))
            if node.isKilling, let at = node.tree?.deadAt { next = min(next, at) }
            if node.guardian == .running, let tree = node.tree, tree.deadAt == nil { next = min(next, tree.deadline) }
        }
        // Two keepers that are stopped or dead: nothing but the watch of time.
        return next.nanoseconds == .max ? now + Self.timing.renewInterval : max(next, now)
    }

    private mutating func suffer(_ fault: Fault, _ broken: Sabotage?) {
        switch fault {
        case .delayRequest(let index):
            guard case .fresh(let statement) = nodes[index].exchange else { return }
            nodes[index].exchange = .lateRequest(statement)
        case .delayReply(let index):
            guard case .fresh(let statement) = nodes[index].exchange else { return }
            guard let reply = execute(statement, index, broken) else { return }
            nodes[index].exchange = .lateReply(reply)
        case .breakBefore(let index):
            endBackend(nodes[index].backend, broken)
        case .breakAfter(let index):
            guard case .fresh(let statement) = nodes[index].exchange else { return }
            _ = execute(statement, index, broken)
            endBackend(nodes[index].backend, broken)
        case .cut(let index): nodes[index].isCut = true
        case .stopKeeper(let index): nodes[index].keeper = .stopped
        case .stopGuard(let index): nodes[index].guardian = .stopped
        case .killKeeper(let index):
            nodes[index].keeper = .dead
            nodes[index].news = []
            if nodes[index].isCut {
                leaveGhost(of: index)
            } else {
                endBackend(nodes[index].backend, broken)
            }
            (nodes[index].session, nodes[index].backend, nodes[index].exchange) = (nil, nil, nil)
            // The guard's channel is at its end: it kills, and then leaves.
            nodes[index].isHeir = false
            beginKill(index, by: .guardian)
        case .killGuard(let index):
            nodes[index].guardian = .dead
            nodes[index].orders = []
            if nodes[index].tree?.killer == .guardian { nodes[index].tree?.deadAt = nil }
            hear(index, .guardGone, broken)
        case .endChild(let index): childEnds(index, .code(1), broken)
        case .stopSidecar(let index): hear(index, .stopRequested(.drain), broken)
        case .restartServer:
            server.id = ServerID(server.id.rawValue + 1)
            server.ghosts = []
            let all = server.backends
            for backend in all.sorted(by: { $0.pid < $1.pid }) { endBackend(backend, broken) }
            server.lock = nil
        }
    }

    // MARK: The keeper

    private mutating func hear(_ index: Int, _ event: Event, _ broken: Sabotage?) {
        switch nodes[index].keeper {
        case .running: run(index, event, broken)
        case .stopped: nodes[index].news.append(event)
        case .dead: break
        }
    }

    /// Limits of calls first, as the link to the database has them.
    private mutating func turn(_ index: Int, _ broken: Sabotage?) {
        if let at = nodes[index].givenUpAt, at <= now { giveUp(index, broken) }
        if let at = nodes[index].opening, at <= now {
            nodes[index].opening = nil
            loseSession(index, broken)
        }
        run(index, .tick, broken)
    }

    /// The limit of a call is over: the session is dropped, and what was sent may still arrive.
    private mutating func giveUp(_ index: Int, _ broken: Sabotage?) {
        leaveGhost(of: index)
        if !nodes[index].isCut { dropBackend(nodes[index].backend) }
        loseSession(index, broken)
    }

    private mutating func leaveGhost(of index: Int) {
        let node = nodes[index]
        guard case .lateRequest(let statement) = node.exchange, let backend = node.backend else { return }
        server.ghosts.append(
            SmallServer.Ghost(
                node: index, instance: node.machine.settings.identity.instance, statement: statement, backend: backend))
    }

    private mutating func loseSession(_ index: Int, _ broken: Sabotage?) {
        guard let session = nodes[index].session else { return }
        (nodes[index].session, nodes[index].backend) = (nil, nil)
        (nodes[index].exchange, nodes[index].givenUpAt, nodes[index].opening) = (nil, nil, nil)
        hear(index, .sessionLost(session, reason: "lost"), broken)
    }

    private mutating func run(_ index: Int, _ event: Event, _ broken: Sabotage?) {
        for action in nodes[index].machine.handle(event, at: now) {
            carryOut(index, broken == .marginZero ? Self.withoutMargin(action) : action, broken)
        }
    }

    /// With a deadline at the end of the TTL.
    private static func withoutMargin(_ action: Action) -> Action {
        switch action {
        case .start(let start, let deadline, let epoch):
            return .start(start, deadline: deadline + timing.margin, epoch: epoch)
        case .order(.extend(let start, let deadline, let token)):
            return .order(.extend(start, deadline: deadline + timing.margin, token: token))
        default: return action
        }
    }

    private mutating func carryOut(_ index: Int, _ action: Action, _ broken: Sabotage?) {
        switch action {
        case .openSession(let id):
            nodes[index].session = id
            if nodes[index].isCut {
                nodes[index].opening = now + Self.timing.life
            } else {
                server.backendsEver += 1
                let backend = BackendID(pid: server.backendsEver, startedAt: Int64(server.backendsEver))
                server.backends.insert(backend)
                nodes[index].backend = backend
                hear(index, .sessionOpened(id, backend: backend), broken)
            }
        case .closeSession(let id):
            guard nodes[index].session == id else { return }
            if !nodes[index].isCut { dropBackend(nodes[index].backend) }
            (nodes[index].session, nodes[index].backend) = (nil, nil)
            (nodes[index].exchange, nodes[index].givenUpAt) = (nil, nil)
        case .send(let id, let statement):
            guard nodes[index].session == id else { return }
            nodes[index].givenUpAt = now + Self.timing.callLimit
            nodes[index].exchange = nodes[index].isCut ? .lateRequest(statement) : .fresh(statement)
            // What only people read is not worth a choice.
            if case .auxiliary = statement, !nodes[index].isCut { exchange(index, statement, broken) }
        case .start(let start, let deadline, let epoch):
            if !nodes[index].claimed.contains(epoch) { violation = violation ?? "a child is started without a claim" }
            tell(index, .start(start, deadline: deadline, commandIndex: 0, environment: []), broken)
        case .order(let order): tell(index, order, broken)
        case .killGuard:
            if broken == .silentGuardSpared { return }
            nodes[index].guardian = .dead
            nodes[index].orders = []
            hear(index, .guardGone, broken)
        case .killBelowGuard:
            if broken == .silentGuardSpared { return }
            beginKill(index, by: .keeper)
        case .killDescendants:
            nodes[index].isHeir = true
            if nodes[index].tree == nil { hear(index, .descendantsGone, broken) }
            beginKill(index, by: .keeper)
        case .report: break
        case .exit:
            if nodes[index].tree != nil { violation = violation ?? "a sidecar ends over its living tree" }
            if !nodes[index].isCut { dropBackend(nodes[index].backend) }
            nodes[index].keeper = .dead
            nodes[index].guardian = .dead
            (nodes[index].session, nodes[index].backend) = (nil, nil)
            (nodes[index].exchange, nodes[index].givenUpAt, nodes[index].opening) = (nil, nil, nil)
        }
        releaseEarly(index, broken)
    }

    private mutating func releaseEarly(_ index: Int, _ broken: Sabotage?) {
        guard broken == .releaseBeforeEmpty, case .leading(let leadership) = nodes[index].machine.role,
            case .held(.windDown(let then)) = leadership.standing, case .idle(let id) = nodes[index].machine.link,
            leadership.holds == id, leadership.tree.start != nil
        else { return }
        nodes[index].machine.ownEpochs.releaseSent(in: leadership.epoch)
        nodes[index].machine.change { $0.standing = .releasing(then) }
        let release = Statement.release(leadership.epoch, beat: leadership.beat)
        nodes[index].machine.link = .busy(id, release, sentAt: now)
        carryOut(index, .send(id, release), broken)
    }

    // MARK: The guard

    private mutating func tell(_ index: Int, _ order: Order, _ broken: Sabotage?) {
        switch nodes[index].guardian {
        case .running: obey(index, order, broken)
        case .stopped: nodes[index].orders.append(order)
        case .dead: break
        }
    }

    private mutating func guardTicks(_ index: Int, _ broken: Sabotage?) {
        guard nodes[index].guardian == .running, let tree = nodes[index].tree, tree.deadAt == nil, tree.deadline <= now
        else { return }
        if broken == .deadlineIgnored {
            nodes[index].tree?.deadline = Instant(nanoseconds: .max)
            return
        }
        beginKill(index, by: .guardian)
        say(index, [.killing(tree.start, .deadline), .exited(tree.start, .signal(9))], broken)
    }

    private mutating func obey(_ index: Int, _ order: Order, _ broken: Sabotage?) {
        guardTicks(index, broken)
        switch order {
        case .ping(let token): say(index, [.strained(Strain()), .pong(token: token)], broken)
        case .start(let start, let deadline, _, _):
            guard nodes[index].tree == nil else { return say(index, [.notStarted(start, .treeAlive)], broken) }
            guard deadline > now else {
                return say(index, [.notStarted(start, .deadlinePassed), .empty(start)], broken)
            }
            nodes[index].tree = SmallTree(start: start, deadline: deadline)
            judge()
            say(index, [.started(start, pid: 1)], broken)
        case .extend(let start, let deadline, let token):
            guard nodes[index].tree?.start == start, nodes[index].tree?.deadAt == nil else {
                return say(index, [.strained(Strain()), .pong(token: token)], broken)
            }
            nodes[index].tree?.deadline = deadline
            say(index, [.strained(Strain()), .extended(start, deadline: deadline, token: token)], broken)
            guardTicks(index, broken)
        case .handicap: break
        case .signal(let start, let number):
            if number == 15, nodes[index].tree?.start == start { nodes[index].tree?.isEnding = true }
        case .kill(let start):
            guard nodes[index].tree?.start == start, nodes[index].tree?.deadAt == nil else { return }
            beginKill(index, by: .guardian)
            say(index, [.killing(start, .ordered), .exited(start, .signal(9))], broken)
        }
    }

    /// What the command leaves behind is killed.
    private mutating func childEnds(_ index: Int, _ exit: ChildExit, _ broken: Sabotage?) {
        guard let tree = nodes[index].tree, tree.deadAt == nil else { return }
        beginKill(index, by: .guardian)
        say(index, [.killing(tree.start, .childExited), .exited(tree.start, exit)], broken)
    }

    private mutating func beginKill(_ index: Int, by killer: SmallTree.Killer) {
        guard let tree = nodes[index].tree, tree.deadAt == nil || tree.killer != killer else { return }
        nodes[index].tree?.deadAt = now + Self.killing
        nodes[index].tree?.killer = killer
    }

    private mutating func treeGone(_ index: Int, _ broken: Sabotage?) {
        guard let tree = nodes[index].tree else { return }
        nodes[index].tree = nil
        if nodes[index].isHeir {
            nodes[index].isHeir = false
            hear(index, .descendantsGone, broken)
        } else if nodes[index].keeper == .dead {
            nodes[index].guardian = .dead
        } else if nodes[index].guardian == .running {
            say(index, [.empty(tree.start)], broken)
        }
    }

    private mutating func say(_ index: Int, _ answers: [Answer], _ broken: Sabotage?) {
        for answer in answers { hear(index, .guardAnswered(answer), broken) }
    }

    // MARK: The server

    /// The request arrives, is carried out, and the answer arrives.
    private mutating func exchange(_ index: Int, _ statement: Statement, _ broken: Sabotage?) {
        guard let reply = execute(statement, index, broken) else { return loseSession(index, broken) }
        answer(index, reply, broken)
    }

    private mutating func answer(_ index: Int, _ reply: Reply, _ broken: Sabotage?) {
        (nodes[index].exchange, nodes[index].givenUpAt) = (nil, nil)
        guard let session = nodes[index].session else { return }
        hear(index, .reply(session, reply), broken)
    }

    private mutating func execute(_ statement: Statement, _ index: Int, _ broken: Sabotage?) -> Reply? {
        guard let backend = nodes[index].backend, server.backends.contains(backend) else { return nil }
        return execute(statement, index, nodes[index].machine.settings.identity.instance, backend, broken)
    }

    /// What Metastore's statements do, each in one piece.
    private mutating func execute(
        _ statement: Statement, _ index: Int, _ instance: InstanceID, _ backend: BackendID, _ broken: Sabotage?
    ) -> Reply {
        switch statement {
        case .observe:
            return .observed(Observation(record: server.record, server: server.id, age: .zero))
        case .create: return .created
        case .claim(let seen, let above, let lock):
            return .claim(claim(seen, above, lock, index, instance, backend, broken))
        case .terminateHolder(let seen, let strangers): return .terminated(terminate(seen, strangers, backend, broken))
        case .renew(let epoch, let ours):
            guard isOurs(epoch, ours, instance, broken) else { return .renewal(.notOurs) }
            return .renewal(renewed(instance, backend))
        case .resume(let epoch, let ours, let lock):
            guard isOurs(epoch, ours, instance, broken) else { return .renewal(.notOurs) }
            if let former = server.record?.backend, former != backend { endBackend(former, broken) }
            server.lock = server.lock ?? backend
            guard server.lock == backend || lock == .waived else { return .renewal(.lockBusy) }
            return .renewal(renewed(instance, backend))
        case .release(let epoch, let beat): return .released(release(epoch, beat, instance, backend))
        case .unlock:
            if server.lock == backend { server.lock = nil }
            return .done
        case .auxiliary(.notify):
            for other in nodes.indices
            where nodes[other].backend != backend && nodes[other].backend != nil
                && !nodes[other].isCut
            { hear(other, .notified, broken) }
            return .done
        case .auxiliary: return .done
        }
    }

    private mutating func claim(
        _ seen: Record, _ above: Epoch, _ lock: LockDemand, _ index: Int, _ instance: InstanceID, _ backend: BackendID,
        _ broken: Sabotage?
    ) -> ClaimReply {
        server.lock = server.lock ?? backend
        guard server.lock == backend || lock == .waived || broken == .claimUncompared else { return .lockBusy }
        guard var record = server.record,
            record.epoch == seen.epoch && record.beat == seen.beat && record.released == seen.released
                || broken == .claimUncompared
        else {
            if server.lock == backend { server.lock = nil }
            return .changed
        }
        record.epoch = Epoch(max(record.epoch.rawValue, above.rawValue) + 1)
        (record.beat, record.holder, record.released) = (0, instance, false)
        (record.server, record.backend) = (server.id, backend)
        server.record = record
        if nodes[index].machine.settings.identity.instance == instance { nodes[index].claimed.insert(record.epoch) }
        return .claimed(record.epoch, fenced: 0)
    }

    private func isOurs(_ epoch: Epoch, _ ours: [BackendID], _ instance: InstanceID, _ broken: Sabotage?) -> Bool {
        guard let record = server.record else { return false }
        if broken == .resumeUncompared { return true }
        return record.epoch == epoch && record.holder == instance && !record.released
            && record.backend.map { ours.contains($0) } == true
    }

    private mutating func renewed(_ instance: InstanceID, _ backend: BackendID) -> RenewalReply {
        server.record?.beat += 1
        server.record?.holder = instance
        server.record?.server = server.id
        server.record?.backend = backend
        return .renewed(beat: server.record?.beat ?? 0, fenced: 0)
    }

    private mutating func release(_ epoch: Epoch, _ beat: Int64, _ instance: InstanceID, _ backend: BackendID) -> Bool {
        if server.lock == backend { server.lock = nil }
        guard var record = server.record, !record.released, record.epoch == epoch, record.holder == instance,
            record.beat == beat, record.server == server.id, record.backend == backend
        else { return false }
        record.beat += 1
        (record.released, record.holder, record.backend) = (true, nil, nil)
        server.record = record
        return true
    }

    private mutating func terminate(
        _ seen: Record, _ strangers: StrangerDemand, _ backend: BackendID, _ broken: Sabotage?
    ) -> Int {
        guard let holder = server.lock, holder != backend, let record = server.record, record.epoch == seen.epoch,
            record.beat == seen.beat, record.backend == holder || strangers == .any
        else { return 0 }
        endBackend(holder, broken)
        return 1
    }

    /// The backend is gone, and its client is told, unless nothing gets through.
    private mutating func endBackend(_ backend: BackendID?, _ broken: Sabotage?) {
        guard let backend, server.backends.contains(backend) else { return }
        dropBackend(backend)
        for index in nodes.indices where nodes[index].backend == backend && !nodes[index].isCut {
            loseSession(index, broken)
        }
    }

    private mutating func dropBackend(_ backend: BackendID?) {
        guard let backend else { return }
        server.backends.remove(backend)
        if server.lock == backend { server.lock = nil }
        server.ghosts.removeAll { $0.backend == backend }
    }

    // MARK: The judge

    private mutating func judge() {
        let alive = nodes.indices.filter { nodes[$0].tree != nil }
        if alive.count > 1 { violation = violation ?? "two trees are alive at once" }
    }

    /// No fault any more: all that was stopped goes on, what was cut is whole, what had ended is started again, and every step is
    /// the first that may come. What is wrong in the end, or on the way: exactly one child must run.
    func wrong(after duration: Duration, _ broken: Sabotage?) -> String? {
        var world = self
        world.faultsLeft = 0
        for index in world.nodes.indices {
            if world.nodes[index].isCut { world.take(.heal(index), broken) }
            if world.nodes[index].keeper == .stopped { world.take(.resumeKeeper(index), broken) }
            if world.nodes[index].guardian == .stopped { world.take(.resumeGuard(index), broken) }
        }
        let end = world.now + duration
        while world.now < end, world.violation == nil {
            for index in world.nodes.indices where world.nodes[index].keeper == .dead && world.nodes[index].tree == nil
            {
                world.take(.restart(index), broken)
            }
            let steps = world.steps()
            world.take(steps.first ?? .wait, broken)
        }
        if let violation = world.violation { return violation + ", after the last fault" }
        return world.nodes.filter { $0.tree != nil }.count == 1 ? nil : "not exactly one child after the last fault"
    }
}
