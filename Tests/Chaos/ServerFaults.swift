// Faults of the replicated database: stops of every kind, freezes, promotion with and without lost commits, a full disk, a
// stepped wall clock, no connection left, a broken session.

import Clock
import Foundation
import TestSupport

struct ServerFaults: Sendable {
    let pair: ReplicatedPair
    let network: Network
    let fleet: Fleet

    /// For those that change who the primary is or whether it runs.
    static let alone = [Claim.only("server")]

    var all: [FaultKind] {
        var kinds = [
            promotion("promotion with lost commits", losing: true), promotion("promotion", losing: false),
            cutReplication, slots, Self.brokenSession(fleet) { [pair] in try pair.primary.session() },
        ]
        if pair.primary.ownVolume { kinds.append(fullDisk) }
        if Server.faketime != nil { kinds += [clock("clock an hour ahead", 3600), clock("clock an hour back", -3600)] }
        return kinds + Self.ofOne { [pair] in try pair.runningPrimary() }
    }

    /// The standby becomes the primary, after the primary is switched off; then the old one follows it.
    private func promotion(_ name: String, losing: Bool) -> FaultKind {
        FaultKind(name: name, aim: .elsewhere, hold: 0...3000, needs: Self.alone) { [pair, network, fleet] fault in
            // First: it may find that their roles have changed.
            try pair.catchUp()
            let (old, new) = (pair.primary, pair.standby)
            let timeline = try old.timeline
            let word = "fault \(fault.number)"
            var cut: Network.Cut?
            defer { try? cut?.lift() }
            let session = try old.session()
            if losing { cut = try network.cut(new.host, [.into, .outOf], peer: old.host) }
            try session.rows("INSERT INTO marker VALUES ('\(word)')")
            if !losing { try pair.catchUp() }
            let record = "SELECT epoch || '/' || beat FROM sidecar.lease WHERE name = '\(fleet.lease)'"
            let before = try session.value(record)
            if losing {
                // The lease's own writes are what shall be lost. Who waits claims it within a TTL and a bit if nobody renews it.
                try? eventually("a write of the lease", timeout: .seconds(10)) { try session.value(record) != before }
                fault.last()
            }
            let lost = try session.value(record)
            old.destroy()
            // Only then is the way free again: a kernel goes on sending what the dead server had left to it.
            try pair.promote()
            try cut?.lift(forget: true)
            cut = nil
            let now = try new.session()
            let missing = try now.value("SELECT count(*) FROM marker WHERE word = '\(word)'") == "0"
            let grown = try new.timeline
            try pair.rebuild()
            guard grown > timeline, missing == losing else {
                return .nothing("timeline \(timeline) to \(grown), the marker is \(missing ? "lost" : "there")")
            }
            // What was written after the marker is lost with it.
            guard !losing || lost != before else { return .nothing("nobody wrote the lease, \(lost ?? "?")") }
            return .took(
                losing
                    ? "timeline \(grown), lost the lease's writes up to \(lost ?? "?") since \(before ?? "?")"
                    : "timeline \(grown)")
        }
    }

    /// Those that any server can have. `server` returns it running: a fault that went wrong may have left it down.
    static func ofOne(_ server: @escaping @Sendable () throws -> Server) -> [FaultKind] {
        func stop(_ name: String, _ number: Int32) -> FaultKind {
            FaultKind(name: name, aim: .elsewhere, hold: 0...5000, needs: alone) { fault in
                let server = try server()
                let before = try server.session().value("SELECT pg_postmaster_start_time()")
                try server.end(number)
                let wasGone = !server.isRunning
                fault.last()
                try server.start()
                let after = try server.session().value("SELECT pg_postmaster_start_time()")
                return wasGone && before != after
                    ? .took("\(server.host.name) was gone, another run of it since \(after ?? "?")")
                    : .nothing("still there")
            }
        }
        let freeze = FaultKind(name: "SIGSTOP server", aim: .elsewhere, needs: alone) { fault in
            let server = try server()
            let all = server.processes
            server.signalAll(SIGSTOP)
            defer { server.signalAll(SIGCONT) }
            fault.last()
            return .counted(all.count { processState($0) == "T" }, "processes stopped")
        }
        return [
            stop("fast stop", SIGINT), stop("immediate stop", SIGQUIT), stop("SIGKILL server", SIGKILL), freeze,
        ]
    }

    private var cutReplication: FaultKind {
        FaultKind(name: "replication cut", aim: .elsewhere, needs: [.with("server"), .only("replication")]) {
            [pair, network] fault in
            let cut = try network.cut(pair.standby.host, [.into, .outOf], peer: pair.primary.host)
            defer { try? cut.lift() }
            try pair.primary.session().rows("INSERT INTO marker VALUES ('replication')")
            fault.last()
            return .counted(try cut.packets(), network.hits)
        }
    }

    private var fullDisk: FaultKind {
        // It may end the server, which is then started again: nobody else may do so meanwhile.
        FaultKind(name: "full disk", aim: .elsewhere, hold: 500...4000, needs: Self.alone) { [pair] fault in
            let server = pair.primary
            let told = server.log.count { $0 == "\n" }
            func complaints() -> Int {
                server.log.split(separator: "\n", omittingEmptySubsequences: false).dropFirst(told)
                    .count { $0.contains("No space left on device") }
            }
            defer { server.freeDisk() }
            try server.fillDisk()
            // The log's segments that are there already have room: somebody must write.
            let writer = try? server.session()
            try? eventually("the server notices", timeout: .seconds(10)) {
                _ = try? writer?.rows("INSERT INTO marker SELECT repeat('x', 1000) FROM generate_series(1, 4000)")
                return complaints() > 0
            }
            fault.last()
            let count = complaints()
            server.freeDisk()
            // A PANIC ends it if its recovery finds no space either.
            try eventually("the server is back", timeout: .seconds(60)) {
                if !server.isRunning { try server.start() }
                return (try? server.session().rows("TRUNCATE marker")) != nil
            }
            return .counted(count, "complaints of no space")
        }
    }

    private func clock(_ name: String, _ offset: Int) -> FaultKind {
        FaultKind(
            name: name, aim: .elsewhere, hold: 1000...8000, needs: [.only("clock"), .with("server")]
        ) { [pair] fault in
            // The standby's, too: it may be promoted any time.
            for server in pair.servers { try server.setClock(offset) }
            defer { for server in pair.servers { try? server.setClock(0) } }
            var seen = 0.0
            fault.last {
                if abs(seen) < 3000 { seen = (try? pair.primary.clockOffset()) ?? seen }
            }
            return abs(seen - Double(offset)) < 60
                ? .took("its clock is off by \(Int(seen)) s") : .nothing("its clock is off by \(Int(seen)) s")
        }
    }

    private var slots: FaultKind {
        FaultKind(
            name: "no connection left", aim: .elsewhere, hold: 1500...6000,
            needs: [.only("slots"), .with("server")]
        ) { [pair, fleet] fault in
            let server = pair.primary
            let told = server.log.count
            let url = server.socketURL(user: "crowd")
            var crowd: [DirectSession] = []
            var brokenAt: Int?
            fault.last {
                // Whoever's session ends now loses its place to the crowd.
                if let one = try? DirectSession(url) {
                    crowd.append(one)
                } else {
                    usleep(30_000)
                    // Again and again, until the crowd was quicker than one of them.
                    if brokenAt.map({ crowd.count <= $0 }) ?? true, let session = try? server.session() {
                        brokenAt = crowd.count
                        _ = try? Self.breakSessions(session, fleet)
                    }
                }
            }
            // The user that only sidecars are; the crowd is refused over and over.
            let refused = server.log.dropFirst(told).split(separator: "\n").count { $0.contains(" 53300 airflow ") }
            return .counted(refused, "connections of sidecars refused with 53300, \(crowd.count) in the way")
        }
    }

    /// Every sidecar's session is terminated.
    static func brokenSession(
        _ fleet: Fleet, _ session: @escaping @Sendable () throws -> DirectSession
    ) -> FaultKind {
        FaultKind(name: "session terminated", aim: .elsewhere, needs: [.with("server")]) { _ in
            // After the fault before there may be none for a moment.
            var count = 0
            try eventually("a session to terminate", timeout: .seconds(15)) {
                count = (try? breakSessions(try session(), fleet)) ?? 0
                return count > 0
            }
            return .took("\(count) sessions terminated")
        }
    }

    /// Terminates every sidecar's session.
    static func breakSessions(_ session: DirectSession, _ fleet: Fleet) throws -> Int {
        try session.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sidecar-%'"
        ).count { $0.first == "t" }
    }
}
