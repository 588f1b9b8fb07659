// The faults of one world: when, which, on whom, and their end. Several can be under way at once.

import Clock

@testable import GuardModel
@testable import Lease

extension World {
    /// Plans the faults of this seed; returns when the last of them is over.
    func schedule(from begin: Time, over span: Time) -> Time {
        var last = begin
        for number in 0..<profile.faults {
            var time = random.time(begin, begin + span)
            // Calm worlds: one after the other, and time to recover in between.
            if isCalm { time = begin + span * Time(number) / Time(profile.faults) }
            let lasts = random.time(
                profile.shortestTTL / 20, random.chance(0.5) ? profile.longestTTL / 2 : 3 * profile.longestTTL)
            let family = random.pick(profile.families)
            last = max(last, time + lasts + (family == .starvation ? 5 : 2) * profile.longestTTL)
            at(time) { [self] in strike(family, for: lasts) }
        }
        return last
    }

    private func strike(_ family: Profile.Family, for lasts: Time) {
        // Half of the faults hit who leads.
        let leader = keepers.firstIndex { $0.leadership != nil }
        let index = random.chance(0.6) ? leader ?? random.below(keepers.count) : random.below(keepers.count)
        let keeper = keepers[index]
        // Those that say no here are counted when they have done something, if they do.
        let hasTakenEffect =
            switch family {
            case .network: strikeNetwork(keeper.host, lasts)
            case .sessions: strikeSession(keeper)
            case .keepers: strikeKeeper(keeper, lasts)
            case .guards: strikeGuard(keeper, lasts)
            case .hosts: strikeHost(keeper.host, lasts)
            case .children: strikeChild(keeper, lasts)
            case .server: strikeServer(lasts, lag: 0)
            case .failover: strikeWithFailover(lasts)
            case .statements: strikeStatements(lasts)
            case .wallClock: strikeWallClock(lasts)
            case .hands: strikeRow()
            case .operators: strikeByOperator(keeper)
            case .copies: copy(keeper)
            case .crashes: strikeWithCrash(lasts)
            case .starvation: strikeProcessors(keeper.host)
            }
        if hasTakenEffect { tookEffect(family) }
    }

    private func strikeNetwork(_ host: Host, _ lasts: Time) -> Bool {
        expect(.network, for: profile.longestTTL + lasts)
        switch random.below(7) {
        case 6:
            // Renewals arrive at once, their answers just before the client gives up; then nothing does.
            let limit = profile.ttls[host.index] / 5
            host.replySlowness = random.time(limit.nanoseconds / 2, limit.nanoseconds * 19 / 20)
            trace { "fault: replies to \(host.index) take \(host.replySlowness / millisecond) ms, then it is cut off" }
            after(random.time(0, profile.longestTTL)) {
                host.isCutTo = true
                host.isCutFrom = true
            }
            after(profile.longestTTL + lasts) { [self] in
                host.replySlowness = 0
                reconnect(host)
            }
        case 0:
            trace { "fault: \(host.index) is slow for \(lasts / millisecond) ms" }
            let slowness = random.time(0, profile.longestTTL / 3)
            host.slowness = slowness
            after(lasts) { if host.slowness == slowness { host.slowness = 0 } }
        case 1:
            trace { "fault: late messages for \(lasts / millisecond) ms" }
            spikes = 0.05
            after(lasts) { [self] in spikes = 0 }
        case let kind:
            trace { "fault: \(host.index) is cut off (\(kind)) for \(lasts / millisecond) ms" }
            if kind != 2 { host.isCutTo = true }
            if kind != 3 { host.isCutFrom = true }
            after(lasts) { [self] in reconnect(host) }
        }
        return false
    }

    func reconnect(_ host: Host) {
        host.isCutTo = false
        host.isCutFrom = false
        for connection in connections where connection.host === host { connection.flush() }
    }

    private func strikeSession(_ keeper: Keeper) -> Bool {
        guard let connection = keeper.connection else { return false }
        let kind = random.below(3)
        trace { "fault: the session of \(keeper.name) breaks (\(kind))" }
        // The client knows, the server knows, or both.
        if kind != 1 { connection.reset(after: 0) }
        if kind != 0, let backend = connection.backend {
            server.end(backend, byFault: true, telling: kind == 2 || isCalm)
        }
        return true
    }

    private func strikeKeeper(_ keeper: Keeper, _ lasts: Time) -> Bool {
        let isAlive = keeper.state != .dead
        switch random.below(5) {
        case 0, 1:
            trace { "fault: \(keeper.name) is stopped for \(lasts / millisecond) ms" }
            keeper.stop()
            after(lasts) { keeper.resume() }
        case 2:
            trace { "fault: \(keeper.name) hangs" }
            keeper.hang()
        case 3:
            trace { "fault: keepers stall for \(lasts / millisecond) ms" }
            stalls = 0.05
            after(lasts) { [self] in stalls = 0 }
            expect(.keepers, for: lasts)
            return false
        default: keeper.die()
        }
        return isAlive
    }

    private func strikeGuard(_ keeper: Keeper, _ lasts: Time) -> Bool {
        let guardian = keeper.guardian
        guard keeper.state == .running, guardian.state != .dead else { return false }
        lastGuardFault = now
        switch random.below(6) {
        case 5:
            let holds = lasts / 2 + profile.longestTTL
            trace { "fault: the guard of \(keeper.name) is held, and cannot die, for \(holds / millisecond) ms" }
            guardian.hold(until: now + holds)
            after(holds) { [self] in lastGuardFault = now }
        case 4:
            trace { "fault: guards are stopped while they kill for a lost lease, and \(keeper.name) loses its" }
            stopsKillingGuards = true
            if random.chance(0.5), server.isRunning, let row = server.stored.row, row.record.beat > 0 {
                judge.editedEpoch()
                server.edit { $0.row?.record.epoch = Epoch(row.record.epoch.rawValue + 1) }
            } else {
                keeper.host.isCutTo = true
            }
            after(keeper.ttl * 2) { [self] in
                stopsKillingGuards = false
                reconnect(keeper.host)
            }
        case 3:
            trace { "fault: the guard of \(keeper.name) is stopped for a moment, then the keeper" }
            guardian.stop()
            after(random.time(0, keeper.ttl * 7 / 10)) { [self] in
                lastGuardFault = now
                guardian.resume()
                keeper.stop()
                after(keeper.ttl * 2) { keeper.resume() }
            }
        case 0: guardian.die()
        case 1:
            trace { "fault: the guard of \(keeper.name) is stopped for good" }
            guardian.stop()
        default:
            trace { "fault: the guard of \(keeper.name) is stopped for \(lasts / millisecond) ms" }
            guardian.stop()
            after(lasts) { [self] in
                lastGuardFault = now
                guardian.resume()
            }
        }
        return true
    }

    private func strikeHost(_ host: Host, _ lasts: Time) -> Bool {
        let keeper = keepers[host.index]
        if random.chance(0.5) {
            keeper.vanish()
            for old in judge.trees where old.host === host { old.die() }
            host.reboot(at: now)
        } else if host.isSuspended {
            return false
        } else {
            trace { "fault: host \(host.index) sleeps for \(lasts / millisecond) ms" }
            host.isSuspended = true
            host.suspendedAt = now
            after(lasts) { [self] in thaw(host) }
        }
        return true
    }

    /// Keeper, guard and their tree get the processor later and later. Soon after, their network is cut.
    private func strikeProcessors(_ host: Host) -> Bool {
        guard host.starvedSince == nil else { return false }
        let ttl = profile.ttls[host.index].nanoseconds
        let lasts = random.time(ttl, 5 * ttl)
        trace { "fault: host \(host.index) starves for \(lasts / millisecond) ms" }
        host.starvedSince = now
        if random.chance(0.9) {
            after(random.time(lasts / 2, lasts * 3 / 4)) {
                host.isCutTo = true
                host.isCutFrom = true
            }
        }
        after(lasts) { [self] in
            host.starvedSince = nil
            reconnect(host)
        }
        return true
    }

    func thaw(_ host: Host) {
        guard host.isSuspended else { return }
        trace { "host \(host.index) is awake" }
        host.isSuspended = false
        host.suspendedFor += now - host.suspendedAt
        lastThaw = now
        let living = judge.trees.filter { $0.host === host && $0.isAlive }
        for tree in living { judge.thawed(tree) }
        let keeper = keepers[host.index]
        for tree in living { tree.guardian.wasLate(by: now - host.suspendedAt) }
        for tree in living where tree.guardian !== keeper.guardian { tree.guardian.resume() }
        keeper.guardian.resume()
        // poll(2) does not count the sleep: it may go on for a tenth of a TTL.
        after(random.time(0, keeper.ttl / 10)) { keeper.resume() }
    }

    private func strikeChild(_ keeper: Keeper, _ lasts: Time) -> Bool {
        switch random.below(5) {
        case 4:
            trace { "fault: the command fails at once, again and again, and messages are late" }
            failsAtOnce = true
            spikes = 0.2
            after(lasts + profile.longestTTL) { [self] in
                failsAtOnce = false
                spikes = 0
            }
        case 0:
            failsForks = true
            after(lasts) { [self] in failsForks = false }
        case 1:
            hasSlowExec = true
            after(lasts) { [self] in hasSlowExec = false }
        case 2:
            shortLives = true
            after(lasts) { [self] in shortLives = false }
        default:
            guard let child = keeper.child, child.hasCommand else { return false }
            child.exitLater(0)
            return true
        }
        expect(.children, for: lasts + profile.longestTTL)
        return false
    }

    private func strikeServer(_ lasts: Time, lag: Int) -> Bool {
        guard server.isRunning else { return false }
        let silently = random.chance(0.4)
        trace { "fault: the server is down for \(lasts / millisecond) ms\(silently ? ", silently" : ""), lag \(lag)" }
        server.stop(silently: silently)
        after(random.chance(0.5) ? lasts : lasts / 10) { [self] in server.start(lag: lag) }
        return true
    }

    /// Fail-over to a replica that lost the last commits; sometimes just to what a standby saw last before it was cut off.
    private func strikeWithFailover(_ lasts: Time) -> Bool {
        if random.chance(0.5), strikeWithForgottenVisitor() { return false }
        let standbys = keepers.filter { $0.standby?.watch != nil }
        guard random.chance(0.5), !standbys.isEmpty else {
            _ = strikeServer(lasts, lag: 1 + random.below(random.pick([2, 6, 20])))
            return false
        }
        let standby = random.pick(standbys)
        trace { "fault: \(standby.name) is cut off, then a replica takes over that shows what it saw last" }
        let host = standby.host
        host.isCutTo = true
        host.isCutFrom = true
        after(random.time(profile.shortestTTL / 2, profile.longestTTL * 2)) { [self] in
            if let seen = standby.standby?.watch?.record, let lag = server.lag(showing: seen), server.isRunning {
                server.stop(silently: random.chance(0.5))
                server.start(lag: lag)
            }
            reconnect(host)
        }
        return false
    }

    /// One backend is killed, and the server recovers under its old start time. Sometimes its settings were reloaded before:
    /// then commits are acknowledged before they are safe, but not those of sessions that pin their setting.
    private func strikeWithCrash(_ lasts: Time) -> Bool {
        guard server.isRunning else { return false }
        let reloaded = random.chance(0.7)
        trace {
            "fault: a backend is killed\(reloaded ? ", a while after a reload that lowers synchronous_commit" : "")"
        }
        if reloaded, twin == .commitsNotPinned { server.isSynchronous = false }
        let lost = 1 + random.below(random.pick([2, 6]))
        // Best while a claim is young.
        waitForClaim(until: now + lasts) { [self] in
            server.crash(losing: lost)
            server.isSynchronous = true
        }
        return true
    }

    private func waitForClaim(until end: Time, _ then: @escaping () -> Void) {
        let isYoung = server.stored.row.map { $0.record.holder != nil && $0.record.beat < 2 } ?? false
        guard now < end, !isYoung else { return then() }
        after(profile.shortestTTL / 20) { [self] in waitForClaim(until: end, then) }
    }

    /// A leader with a longer TTL than somebody else's, who has seen it and is then out of touch for longer than that TTL. A
    /// replica takes over that has lost the leader's claim, and the leader is cut off.
    private func strikeWithForgottenVisitor() -> Bool {
        guard let leader = keepers.first(where: { $0.leadership != nil }), let epoch = leader.leadership?.epoch,
            let standby = keepers.first(where: {
                $0.ttl < leader.ttl && $0.standby?.watch?.record.epoch == epoch
            }), server.lag(before: epoch, ttlBelow: leader.timing.ttl) != nil
        else { return false }
        trace {
            "fault: \(standby.name) is cut off, then a replica takes over that has lost the claim of \(leader.name)"
        }
        standby.host.isCutTo = true
        standby.host.isCutFrom = true
        after(random.time(leader.ttl, leader.ttl * 2)) { [self] in
            if leader.leadership?.epoch == epoch, server.isRunning,
                let lag = server.lag(before: epoch, ttlBelow: leader.timing.ttl)
            {
                leader.host.isCutTo = true
                leader.host.isCutFrom = true
                server.stop(silently: random.chance(0.5))
                server.start(lag: lag)
                after(leader.ttl * 2) { [self] in reconnect(leader.host) }
            }
            reconnect(standby.host)
        }
        return true
    }

    private func strikeStatements(_ lasts: Time) -> Bool {
        expect(.statements, for: lasts)
        switch random.below(3) {
        case 0:
            server.slowness = random.time(0, profile.longestTTL / 2)
            after(lasts) { [self] in server.slowness = 0 }
        case 1:
            server.failures = random.pick([0.05, 0.3])
            after(lasts) { [self] in server.failures = 0 }
        default:
            server.losesNotifications = true
            after(lasts) { [self] in server.losesNotifications = false }
        }
        trace { "fault: slow or failing statements for \(lasts / millisecond) ms" }
        return false
    }

    /// Not where claims can be lost as well: an epoch that nobody remembers, on a clock that was set back, can repeat.
    private func strikeWallClock(_ lasts: Time) -> Bool {
        guard !profile.families.contains(.failover), !profile.families.contains(.hands) else { return false }
        trace { "fault: the server's wall clock is set" }
        let before = server.wallStep
        server.wallStep = random.pick([-3_600_000, 3_600_000, 0])
        return server.wallStep != before
    }

    private func strikeRow() -> Bool {
        guard server.isRunning, let row = server.stored.row else { return false }
        let kind = random.below(7)
        trace { "fault: hands in the table (\(kind))" }
        switch kind {
        case 0:
            judge.forget(above: 0)
            server.edit { $0.row = nil }
        case 1, 2:
            judge.edited(released: true)
            server.edit { $0.row?.record.released = true }
        case 3:
            judge.edited(released: false)
            server.edit { $0.row?.record.ttl = .milliseconds(500) }
        case 4 where row.record.beat > 0:
            judge.editedEpoch()
            server.edit { $0.row?.record.epoch = Epoch(row.record.epoch.rawValue + 1) }
            // And when somebody may claim, answers get lost.
            after(row.record.ttl.nanoseconds * random.time(90, 105) / 100) { [self] in
                server.slowness = profile.longestTTL / 2
                after(profile.longestTTL) { [self] in server.slowness = 0 }
            }
        case 5:
            server.edit { $0.row?.record.suspended.toggle() }
        default:
            // From a leader as well: its session ends, and the thief is faster.
            if let holder = server.lockHolder, random.chance(0.5) { server.end(holder, byFault: true) }
            guard let thief = server.steal() else { return false }
            thief.isActive = random.chance(0.4)
            thief.isOutOfReach = random.chance(0.3)
            // Some go by themselves, and some outlast the world.
            let stays: Time = thief.isActive || thief.isOutOfReach ? 100 : 4
            after(profile.longestTTL * stays) { [self] in server.end(thief, byFault: false) }
        }
        return true
    }

    private func strikeByOperator(_ keeper: Keeper) -> Bool {
        let isAlive = keeper.state != .dead
        if random.chance(0.3) {
            trace { "fault: SIGTERM for \(keeper.name), twice, and what it sends then arrives late" }
            let host = keeper.host
            host.isCutTo = true
            after(random.time(keeper.ttl, keeper.ttl * 3 / 2)) { [self] in reconnect(host) }
            keeper.signal(.stop(.now))
            return isAlive
        }
        trace { "fault: SIGTERM for \(keeper.name)" }
        keeper.signal(.stop(random.chance(0.8) ? .drain : .now))
        return isAlive
    }

    /// A fault of guards: this one is stopped in the middle of its work.
    func stopWhileKilling(_ keeper: Keeper) {
        after(random.time(100_000, 5 * millisecond)) { [self] in
            lastGuardFault = now
            keeper.guardian.stop()
        }
    }
}
