// The stage with a primary and a streaming standby, each a host, and sidecars on hosts of their own that know both.

import Clock
import Foundation
import TestSupport

/// What a stage is made of when it is up.
struct Stage {
    let name: String
    let fleet: Fleet
    let kinds: [FaultKind]
    let close: () -> Void
    var twoPrimaries: () -> [ClosedRange<Instant>] = { [] }
}

enum Stages {
    /// How the members of trees are spread over the nodes.
    static let shapes = [
        "plain,stubborn", "setsid,daemon", "stopped,hopping", "plain,stubborn,setsid,daemon,stopped,hopping",
    ]

    /// Four hosts with a sidecar each: every second one in a pid namespace.
    static func nodes(_ network: Network, urls: [String]) throws -> [Node] {
        try (0..<4).map { index in
            let name = "n\(index + 1)"
            return Node(
                name: name, host: try network.host(name, number: 21 + index, resolver: true),
                url: urls[index % urls.count], container: index % 2 == 1 && SidecarProcess.noNamespaces == nil,
                shapes: shapes[index])
        }
    }

    static func replicated(_ workplace: Workplace, _ checks: Checks) throws -> Stage {
        let network = try Network(workplace, stage: "r")
        let hosts = try [network.host("db1", number: 11), network.host("db2", number: 12)]
        let directory = workplace.directory + "/replicated"
        let pair = try ReplicatedPair(hosts, directory: directory)
        let names = try NameServer(
            on: network.hub, directory: directory,
            names: ["db1.chaos.test": hosts[0].address, "db2.chaos.test": hosts[1].address])
        func url(_ one: String, _ two: String) -> String {
            "postgresql://airflow@\(one):\(Server.port),\(two):\(Server.port)/chaos?target_session_attrs=read-write"
        }
        let byAddress = url(hosts[0].address, hosts[1].address)
        let byName = url("db1.chaos.test", "db2.chaos.test")
        let fleet = try Fleet(
            try nodes(network, urls: [byName, byName, byAddress, byAddress]), directory: directory)
        let kinds =
            NetworkFaults.ofNodes(network) + ProcessFaults(fleet: fleet).all
            + ServerFaults(pair: pair, network: network, fleet: fleet).all
            + [
                NetworkFaults.ofNames(names) { try ServerFaults.breakSessions(try pair.primary.session(), fleet) }
            ]
        if network.slowness == nil { checks.skip("replicated: slow link", "neither netem nor tbf in this kernel") }
        if Server.faketime == nil { checks.skip("replicated: clock steps", "no libfaketime here") }
        if !pair.primary.ownVolume { checks.skip("replicated: full disk", "no tmpfs may be mounted here") }
        return Stage(
            name: "replicated", fleet: fleet, kinds: kinds,
            close: {
                fleet.close()
                for server in pair.servers { server.destroy() }
            })
    }
}
