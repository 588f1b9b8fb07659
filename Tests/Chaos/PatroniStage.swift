// The stage with Patroni: two hosts with a Patroni and its PostgreSQL each, etcd on the hub. Who is the primary is Patroni's
// business; the faults hit Patroni, PostgreSQL, etcd, the hosts' links and the sidecars.
//
// Each Patroni is PID 1 of a pid namespace, as in a container: killed alone it would leave its PostgreSQL behind as a second
// primary, which is beyond sidecar's promise. What two primaries remain (Patroni without a watchdog allows them for moments
// after it was frozen) is seen by a witness, and what overlaps then is told but does not count.

import Clock
import Foundation
import TestSupport

/// The pair and its etcd.
final class PatroniPair: Sendable {
    let nodes: [PatroniNode]
    let etcd: SpawnedProcess

    init(_ network: Network, hosts: [Host], directory: String) throws {
        let store = directory + "/etcd"
        let client = "http://\(network.hub.address):2379"
        let peer = "http://\(network.hub.address):2380"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        etcd = try SpawnedProcess(
            network.hub.enter + [
                "etcd", "--data-dir", store, "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
                "default=\(peer)",
            ],
            environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], output: directory + "/etcd.log")
        try eventually("etcd serves") { [etcd] in etcd.output.contains("set the initial cluster version") }
        nodes = try hosts.map { try PatroniNode(on: $0, etcd: network.hub, directory: directory) }
        try eventually("Patroni has a primary", timeout: .seconds(60)) { primary != nil }
        try eventually("the primary takes writes", timeout: .seconds(20)) {
            guard let admin = try? primary?.session(database: "postgres") else { return false }
            for sql in ["CREATE ROLE airflow LOGIN", "CREATE DATABASE chaos OWNER airflow"] { try admin.rows(sql) }
            return true
        }
        try eventually("the standby streams", timeout: .seconds(60)) { isWhole }
    }

    var primary: PatroniNode? {
        let writable = nodes.filter(\.writable)
        return writable.count == 1 ? writable[0] : nil
    }

    /// A primary, and a standby that streams from it.
    var isWhole: Bool {
        guard let session = try? primary?.session() else { return false }
        // A base backup streams as well.
        let names = nodes.map { "'\($0.host.name)'" }.joined(separator: ", ")
        let standbys =
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN (\(names))"
        return (try? session.value(standbys)) == "1"
    }

    /// The primary, when all is well. A standby that Patroni does not bring back is made anew, as an operator would.
    func whole() throws -> PatroniNode {
        do { try eventually("primary and standby are well", timeout: .seconds(30)) { isWhole } } catch {
            let seen = nodes.map(\.description).joined(separator: ", ")
            guard let primary, let standby = nodes.first(where: { $0 !== primary }) else {
                throw Failure("\(error): \(seen)")
            }
            say("     (\(seen): \(standby.host.name) is made anew; it said:\n\(standby.log.suffix(2000)))")
            try standby.renew()
            try eventually("the standby is made anew", timeout: .seconds(60)) { isWhole }
        }
        guard let primary else { throw Failure("no primary") }
        return primary
    }

    /// Starts whose container is off. Tells since when there has been the primary of now; throws as long as that is not longer
    /// ago than Patroni's TTL: one that has just lost its place goes on for a moment.
    func heal() throws -> Instant {
        for node in nodes where node.isOff { try node.start() }
        guard let primary, let since = primary.writableSince, BootClock.now().since(since) > PatroniNode.ttl,
            try primary.session().value("SELECT pg_is_in_recovery()") == "f"
        else { throw Failure("no lasting primary: " + nodes.map(\.description).joined(separator: ", ")) }
        return since
    }

    /// When both accepted writes.
    var twoPrimaries: [ClosedRange<Instant>] {
        nodes[0].spans.flatMap { one in nodes[1].spans.filter { $0.overlaps(one) }.map { $0.clamped(to: one) } }
    }

    var kinds: [FaultKind] {
        let alone = ServerFaults.alone
        func manual(_ name: String, _ words: @escaping @Sendable (PatroniNode, PatroniNode) -> [String]) -> FaultKind {
            FaultKind(name: name, weight: 4, aim: .elsewhere, needs: alone) { [self] _ in
                let old = try whole()
                guard let new = nodes.first(where: { $0 !== old }) else { throw Failure("no other") }
                // It says no as long as Patroni itself does not know of the standby yet.
                let patronictl = ["env", "LC_ALL=C.UTF-8", "patronictl", "-c", new.configuration] + words(old, new)
                for attempt in 1... {
                    // It ends with an error where it is told no; it may have done what it was asked for all the same.
                    let said: String
                    do { said = try run(new.host.enter + patronictl) } catch { said = "\(error)" }
                    do {
                        try eventually("\(new.host.name) is the primary", timeout: .seconds(15)) { primary === new }
                        break
                    } catch { if attempt == 3 { throw Failure("\(error), patronictl said: \(said)") } }
                }
                return .took("\(new.host.name) is the primary")
            }
        }
        func stopped(_ name: String, hold: ClosedRange<Int>, _ pids: @escaping @Sendable (PatroniNode) -> [pid_t])
            -> FaultKind
        {
            FaultKind(name: name, aim: .elsewhere, hold: hold, needs: alone) { [self] fault in
                let all = pids(try whole())
                for pid in all { kill(pid, SIGSTOP) }
                defer { for pid in all { kill(pid, SIGCONT) } }
                fault.last()
                return .counted(all.count { processState($0) == "T" }, "processes stopped")
            }
        }
        return [
            manual("switchover") { old, _ in ["switchover", "chaos", "--master", old.host.name, "--force"] },
            manual("failover by hand") { _, new in ["failover", "chaos", "--candidate", new.host.name, "--force"] },
            FaultKind(name: "SIGKILL Patroni's container", aim: .elsewhere, needs: alone) { [self] fault in
                let node = try whole()
                try node.destroy()
                fault.last()
                try node.start()
                return .took("\(node.host.name) was off for \(fault.hold.milliseconds) ms")
            },
            FaultKind(name: "SIGKILL postgres", aim: .elsewhere, needs: alone) { [self] _ in
                let node = try whole()
                guard let postmaster = node.postmaster, kill(postmaster, SIGKILL) == 0 else {
                    return .nothing("no postmaster")
                }
                try eventually("the postmaster is dead") { processState(postmaster).map { $0 == "Z" } ?? true }
                return .took("\(node.host.name)'s postmaster is dead")
            },
            // Less than its ttl: beyond that another is promoted while this one's PostgreSQL still takes writes.
            stopped("SIGSTOP Patroni", hold: 500...2500) { $0.processes("patroni") },
            stopped("SIGSTOP postgres", hold: 500...5000) { $0.processes("postgres") },
            FaultKind(name: "SIGSTOP etcd", aim: .elsewhere, hold: 500...6000, needs: alone) { [etcd] fault in
                kill(etcd.pid, SIGSTOP)
                defer { kill(etcd.pid, SIGCONT) }
                fault.last()
                return .counted(processState(etcd.pid) == "T" ? 1 : 0, "process stopped")
            },
        ]
    }

    func close() {
        for node in nodes { node.close() }
        etcd.signal(SIGKILL)
    }
}

extension Stages {
    static func patroni(_ workplace: Workplace, _ checks: Checks) throws -> Stage {
        let network = try Network(workplace, stage: "p")
        let hosts = try [network.host("db1", number: 11), network.host("db2", number: 12)]
        let directory = workplace.directory + "/patroni"
        let pair = try PatroniPair(network, hosts: hosts, directory: directory)
        let url =
            "postgresql://airflow@\(hosts[0].address):\(Server.usualPort),\(hosts[1].address):\(Server.usualPort)/chaos"
            + "?target_session_attrs=read-write"
        let fleet = try Fleet(try nodes(network) { _, _ in url }, directory: directory)
        let isolated = FaultKind(
            name: "primary's host isolated", aim: .elsewhere, hold: 2000...8000, needs: ServerFaults.alone
        ) { fault in
            let cut = try network.cut(try pair.whole().host, [.into, .outOf])
            defer { try? cut.lift() }
            fault.last()
            return .counted(try cut.packets(), network.hits)
        }
        let common =
            (NetworkFaults.ofNodes(network) + ProcessFaults(fleet: fleet, workplace: workplace, network: network).all)
            .filter {
                ["partition", "SIGKILL keeper", "SIGSTOP keeper", "SIGSTOP guard", "traced guard"].contains($0.name)
            }
        let broken = ServerFaults.brokenSession(fleet) {
            guard let primary = pair.primary else { throw Failure("no primary") }
            return try primary.session()
        }
        return Stage(
            name: "patroni", fleet: fleet, kinds: pair.kinds + [isolated, broken] + common,
            heal: { try pair.heal() },
            close: {
                fleet.close()
                pair.close()
            },
            twoPrimaries: { pair.twoPrimaries },
            logs: { pair.nodes.map { ("Patroni on \($0.host.name)", $0.log) } })
    }
}
