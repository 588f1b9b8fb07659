// The stage with a primary and a streaming standby, each a host, and sidecars on hosts of their own that know both.

import Clock
import Foundation
import TestSupport

/// What a stage is made of when it is up.
struct Stage {
    let name: String
    let fleet: Fleet
    let kinds: [FaultKind]
    /// Mends what a fault that went wrong left down. Tells since when the database can be reached without a break, as far as
    /// that is known; throws as long as it cannot.
    let heal: () throws -> Instant
    let close: () -> Void
    var twoPrimaries: () -> [ClosedRange<Instant>] = { [] }
    /// What others than sidecars said, by name: told when the stage fails.
    var logs: () -> [(name: String, text: String)] = { [] }
}

enum Stages {
    /// How the members of trees are spread over the nodes.
    static let shapes = [
        "plain,stubborn", "setsid,daemon", "stopped,hopping", "plain,stubborn,setsid,daemon,stopped,hopping",
    ]

    /// Four hosts with a sidecar each: every second one in a pid namespace.
    static func nodes(_ network: Network, url: (Int, Host) throws -> String) throws -> [Node] {
        try (0..<4).map { index in
            let host = try network.host("n\(index + 1)", number: 21 + index, resolver: true)
            return Node(
                name: host.name, host: host, url: try url(index, host),
                container: index % 2 == 1 && SidecarProcess.noNamespaces == nil, shapes: shapes[index])
        }
    }

    static func replicated(_ workplace: Workplace, _ checks: Checks, namespaces: Bool) throws -> Stage {
        let network = try Network(workplace, stage: "r", namespaces: namespaces)
        let hosts = try [network.host("db1", number: 11), network.host("db2", number: 12)]
        let directory = workplace.directory + "/replicated"
        let pair = try ReplicatedPair(hosts, network: network, directory: directory)
        let nodes = try nodes(network) { index, host in
            let ways = try pair.servers.map { try network.way(from: host, to: $0.host, port: $0.port) }
            // The first two know the servers by name, the others by address.
            let all = zip(ways, hosts).map { way, server in
                "\(namespaces && index < 2 ? "\(server.name).chaos.test" : way.address):\(way.port)"
            }
            return "postgresql://airflow@\(all.joined(separator: ","))/chaos?target_session_attrs=read-write"
        }
        let fleet: Fleet
        var kinds = NetworkFaults.ofNodes(network)
        if namespaces {
            let names = try NameServer(
                on: network.hub, directory: directory,
                names: Dictionary(uniqueKeysWithValues: hosts.map { ("\($0.name).chaos.test", $0.address) }))
            fleet = try Fleet(nodes, directory: directory)
            kinds.append(
                NetworkFaults.ofNames(names) { try ServerFaults.breakSessions(try pair.primary.session(), fleet) })
        } else {
            fleet = try Fleet(nodes, directory: directory)
            for kind in ["lossy link", "name server hangs"] {
                checks.skip("replicated: \(kind)", "needs network namespaces")
            }
        }
        kinds +=
            ProcessFaults(fleet: fleet, workplace: workplace, network: network).all
            + ServerFaults(pair: pair, network: network, fleet: fleet).all
        if network.slowness == nil { checks.skip("replicated: slow link", "neither netem nor tbf in this kernel") }
        if Server.faketime == nil { checks.skip("replicated: clock steps", "no libfaketime here") }
        if !pair.primary.ownVolume { checks.skip("replicated: full disk", "no tmpfs may be mounted here") }
        return Stage(
            name: "replicated", fleet: fleet, kinds: kinds,
            heal: {
                let session = try pair.runningPrimary().session()
                guard try session.value("SELECT pg_is_in_recovery()") == "f" else { throw Failure("no primary") }
                return BootClock.now()
            },
            close: {
                fleet.close()
                for server in pair.servers { server.destroy() }
                network.close()
            })
    }
}
