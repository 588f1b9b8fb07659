// What the statements of Metastore/Statements/ do to the one row and the one lock, each in one piece, as in autocommit.

import Clock
import Lease

@testable import GuardModel

extension Server {
    /// What a claim that fails on its way may leave behind: session locks survive an error.
    func failHalfway(_ statement: Statement, from backend: Backend) {
        guard case .claim = statement, lockHolder == nil else { return }
        lockHolder = backend
    }

    func execute(_ statement: Statement, from backend: Backend, of keeper: Keeper) -> Reply {
        backend.lastUsed = world.now
        switch statement {
        case .observe:
            if lockHolder === backend { world.judge.blame("\(keeper.name) polls while it holds the lock") }
            var age = Duration.zero
            if let row = stored.row { age = .milliseconds(wall - row.renewedAt) }
            var record = stored.row?.record
            record?.backend = stored.row?.backend?.id
            return .observed(Observation(record: record, server: id, age: age))
        case .create(let ttl, let above): return create(ttl, above, keeper)
        case .claim(let seen, let above, let lock): return .claim(claim(seen, above, lock, backend, keeper))
        case .terminateHolder(let seen, let strangers): return .terminated(terminate(seen, strangers, backend))
        case .renew(let epoch, let ours): return .renewal(renew(epoch, ours, backend, keeper))
        case .resume(let epoch, let ours, let lock): return .renewal(resume(epoch, ours, lock, backend, keeper))
        case .release(let epoch, let beat): return .released(release(epoch, beat, backend, keeper))
        case .unlock:
            if lockHolder === backend { lockHolder = nil }
            return .done
        case .auxiliary(let chore):
            auxiliary(chore, backend)
            return .done
        }
    }

    /// R8: how many sessions of an earlier child a write had to leave alone, being of roles that the sidecar may not end.
    func unfenced(by reply: Reply) -> Int {
        switch reply {
        case .claim(.claimed(let epoch, _)): epoch.rawValue % 2 == 0 ? 1 : 0
        case .renewal(.renewed(let beat, _)): beat % 8 == 0 ? 1 : 0
        default: 0
        }
    }

    private func auxiliary(_ chore: Auxiliary, _ backend: Backend) {
        switch chore {
        case .historyBegin(let epoch, _, _): stored.history = max(stored.history, epoch.rawValue)
        case .notify where !losesNotifications:
            for other in backends where other !== backend { other.connection?.notify() }
        case .notify: world.felt(.statements)
        case .rehearse, .register, .leave, .historyEnd: break
        }
    }

    private func create(_ ttl: Duration, _ above: Epoch, _ keeper: Keeper) -> Reply {
        guard stored.row == nil else { return .created }
        let twin = world.twin
        let epoch = twin == .epochsRepeat ? 1 : max(above.rawValue + 1, wall, stored.history + 1)
        stored.row = Row(
            record: Record(
                epoch: Epoch(epoch), beat: 0, holder: nil, node: nil,
                ttl: twin == .createdWithShortTTL ? .milliseconds(500) : ttl,
                renewInterval: keeper.timing.renewInterval, released: twin == .createdReleased, suspended: false,
                server: id), backend: nil, renewedAt: wall)
        commit()
        world.judge.created(by: keeper)
        return .created
    }

    private func claim(
        _ seen: Record, _ above: Epoch, _ lock: LockDemand, _ backend: Backend, _ keeper: Keeper
    ) -> ClaimReply {
        let twin = world.twin
        if twin?.hasNoLock != true {
            if lockHolder == nil { lockHolder = backend }
            guard lockHolder === backend || isWaived(lock) else { return .lockBusy }
        }
        let compares = twin != .noCompareAndSet && twin != .noLockNoCompareAndSet
        guard let row = stored.row,
            !compares
                || (row.record.epoch == seen.epoch && row.record.beat == seen.beat
                    && row.record.released == seen.released),
            !row.record.suspended || twin == .suspendedClaimed
        else {
            if lockHolder === backend { lockHolder = nil }
            return .changed
        }
        if row.record.suspended { world.judge.claimedWhileSuspended(keeper) }
        let next = row.record.epoch.rawValue + 1
        let epoch = twin == .epochsRepeat ? next : max(next, above.rawValue + 1, wall)
        write(backend, keeper) {
            $0.epoch = Epoch(epoch)
            $0.beat = 0
            $0.holder = keeper.identity.instance
            $0.released = false
        }
        world.trace { "server: \(keeper.name) claims epoch \(epoch)" }
        world.judge.claimed(Epoch(epoch), by: keeper)
        return .claimed(Epoch(epoch), fenced: 0)
    }

    private func isWaived(_ lock: LockDemand) -> Bool { lock == .waived && world.twin != .lockNeverWaived }

    /// What every write of a holder sets.
    private func write(_ backend: Backend, _ keeper: Keeper, _ change: (inout Record) -> Void) {
        guard var row = stored.row else { return }
        change(&row.record)
        row.record.ttl = keeper.timing.ttl
        row.record.renewInterval = keeper.timing.renewInterval
        row.record.server = id
        row.backend = backend
        row.renewedAt = wall
        stored.row = row
        commit()
        fence(row.record.epoch, keeper)
    }

    private func isOurs(_ epoch: Epoch, _ ours: [BackendID], _ keeper: Keeper) -> Bool {
        guard let row = stored.row else { return false }
        let record = row.record
        let released = record.released && world.twin != .renewReleased
        let isFromOurSession = world.twin == .renewerByName || row.backend.map { ours.contains($0.id) } ?? false
        return record.epoch == epoch && record.holder == keeper.identity.instance && !released && isFromOurSession
    }

    private func renew(_ epoch: Epoch, _ ours: [BackendID], _ backend: Backend, _ keeper: Keeper) -> RenewalReply {
        guard isOurs(epoch, ours, keeper) else { return .notOurs }
        return renewed(epoch, backend, keeper)
    }

    private func renewed(_ epoch: Epoch, _ backend: Backend, _ keeper: Keeper) -> RenewalReply {
        write(backend, keeper) {
            $0.beat += 1
            $0.holder = keeper.identity.instance
        }
        world.judge.renewed(by: keeper)
        return .renewed(beat: stored.row?.record.beat ?? 0, fenced: 0)
    }

    private func resume(
        _ epoch: Epoch, _ ours: [BackendID], _ lock: LockDemand, _ backend: Backend, _ keeper: Keeper
    ) -> RenewalReply {
        let compares = world.twin != .resumeUncompared
        guard compares ? isOurs(epoch, ours, keeper) : stored.row != nil else { return .notOurs }
        if world.twin != .formerBackendSpared, world.twin != .ownRecordAfterReleaseUnaided,
            let former = stored.row?.backend, former !== backend, former.isAlive
        {
            // A signal: the backend needs a moment to go, its lock with it.
            world.after(world.random.time(0, 2 * millisecond)) { [self] in end(former, byFault: false) }
        }
        if world.twin?.hasNoLock != true {
            if lockHolder == nil || !compares { lockHolder = backend }
            guard lockHolder === backend || isWaived(lock) else { return .lockBusy }
        }
        world.judge.resumed(by: keeper, epoch)
        return renewed(epoch, backend, keeper)
    }

    private func release(_ epoch: Epoch, _ beat: Int64, _ backend: Backend, _ keeper: Keeper) -> Bool {
        if lockHolder === backend { lockHolder = nil }
        let compares = world.twin?.releasesAnything != true
        guard var row = stored.row, !row.record.released,
            !compares
                || (row.record.epoch == epoch && row.record.holder == keeper.identity.instance
                    && row.record.beat == beat && row.record.server == id && row.backend === backend)
        else { return false }
        row.record.beat += 1
        row.record.released = true
        row.record.holder = nil
        row.record.ttl = keeper.timing.ttl
        row.record.renewInterval = keeper.timing.renewInterval
        row.record.server = id
        row.backend = nil
        row.renewedAt = wall
        stored.row = row
        commit()
        world.judge.released(by: keeper, epoch)
        world.trace { "server: \(keeper.name) released epoch \(epoch)" }
        return true
    }

    private func terminate(_ seen: Record, _ strangers: StrangerDemand, _ backend: Backend) -> Int {
        guard let holder = lockHolder, holder !== backend, let row = stored.row else { return 0 }
        let isSeen = row.record.epoch == seen.epoch && row.record.beat == seen.beat
        guard !holder.isOutOfReach else { return 0 }
        let isIdle =
            switch strangers {
            case .idleFor(let idle): !holder.isActive && world.now - holder.lastUsed > idle.nanoseconds
            case .any: true
            }
        guard isSeen && (row.backend === holder || isIdle) || world.twin == .terminateUnchecked else { return 0 }
        if !isSeen, let victim = holder.connection?.keeper {
            world.judge.hitSuccessor(victim, "its session was terminated for a record that had moved on")
        }
        world.trace { "server: the lock's holder, \(holder.connection?.keeper.name ?? "a stranger"), is terminated" }
        world.after(world.random.time(0, 2 * millisecond)) { [self] in end(holder, byFault: false) }
        return 1
    }

    /// R8: in the statement that writes; as it must not be, on its own some time later, with the epoch of then.
    private func fence(_ epoch: Epoch, _ keeper: Keeper) {
        guard world.twin == .lateFence else {
            return world.judge.fenced(exceptEpoch: epoch, current: stored.row?.record)
        }
        world.after(world.random.time(0, 2 * keeper.ttl)) { [self] in
            world.judge.fenced(exceptEpoch: epoch, current: stored.row?.record)
        }
    }
}
