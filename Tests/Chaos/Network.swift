// The hosts of a stage: a network namespace each, on a veth link to a bridge in a namespace of its own. The machine's own
// network is not touched and its addresses cannot collide with these. Faults are rules in the hosts' packet filters.
// Where namespaces are not permitted all hosts are this machine, and a TCP proxy stands on each way between two of them.

import Foundation
import Synchronization
import TestSupport

/// A host: a namespace with one link.
struct Host: Sendable {
    let name: String
    /// Nil: this machine itself.
    let namespace: String?
    let address: String
    /// Runs what follows on this host, as the same process.
    var enter: [String] { namespace.map { ["ip", "netns", "exec", $0] } ?? [] }
}

/// A bridge and the hosts on it.
final class Network: Sendable {
    /// What is put in front of packets.
    enum Direction: String, Sendable {
        case into = "INPUT"
        case outOf = "OUTPUT"
    }
    /// How a slow link is made here: netem where the kernel has it, else a token bucket of a few bytes.
    enum Slowness: Sendable {
        case netem
        case tokens
        /// Without namespaces.
        case proxy
    }

    /// The host of the bridge: what serves everybody runs here.
    let hub: Host
    private let workplace: Workplace
    private let rules = Mutex(0)
    let slowness: Slowness?
    private let proxies = Mutex<[Way: TCPProxy]>([:])

    /// From one host to another, by name.
    private struct Way: Hashable {
        let from: String
        let to: String
    }
    /// What a cut counts.
    var hits: String { hasNamespaces ? "packets dropped" : "bytes held" }
    var hasNamespaces: Bool { hub.namespace != nil }

    /// Why there are no namespaces here; nil where there are.
    static func whyNot(_ workplace: Workplace) -> String? {
        let name = workplace.prefix + "-probe"
        do {
            try run(["ip", "netns", "add", name])
            try run(["ip", "-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"])
            try run(["ip", "-n", name, "link", "add", "bridge0", "type", "bridge"])
            try run(["ip", "netns", "exec", name, "iptables", "-w", "-I", "INPUT", "-p", "tcp", "-j", "DROP"])
            try run(["ip", "netns", "delete", name])
            return nil
        } catch {
            return "\(error)"
        }
    }

    init(_ workplace: Workplace, stage: String, namespaces: Bool = true) throws {
        self.workplace = workplace
        guard namespaces else {
            hub = Host(name: "hub", namespace: nil, address: "127.0.0.1")
            slowness = .proxy
            return
        }
        let namespace = "\(workplace.prefix)-\(stage)hub"
        hub = Host(name: "hub", namespace: namespace, address: "198.18.0.1")
        try run(["ip", "netns", "add", namespace])
        try run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        try run(["ip", "-n", namespace, "link", "add", "bridge", "type", "bridge"])
        try run(["ip", "-n", namespace, "address", "add", "\(hub.address)/24", "dev", "bridge"])
        try run(["ip", "-n", namespace, "link", "set", "bridge", "up"])
        let try1 = { [namespace] (words: String) in
            (try? run(
                ["tc", "-n", namespace, "qdisc", "add", "dev", "lo", "root"] + words.components(separatedBy: " ")))
                != nil
        }
        slowness = try1("netem delay 1ms") ? .netem : try1("tbf rate 8mbit burst 16000 latency 1s") ? .tokens : nil
        if slowness != nil { try run(["tc", "-n", namespace, "qdisc", "delete", "dev", "lo", "root"]) }
    }

    /// Connects one more host. `number` is the last of its address's numbers.
    func host(_ name: String, number: Int, resolver: Bool = false) throws -> Host {
        guard let bridge = hub.namespace else { return Host(name: name, namespace: nil, address: hub.address) }
        let namespace = "\(bridge.dropLast("hub".count))\(name)"
        let host = Host(name: name, namespace: namespace, address: "198.18.0.\(number)")
        try run(["ip", "netns", "add", namespace])
        try run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        try run([
            "ip", "-n", bridge, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns",
            namespace,
        ])
        try run(["ip", "-n", bridge, "link", "set", name, "master", "bridge", "up"])
        try run(["ip", "-n", namespace, "address", "add", "\(host.address)/24", "dev", "eth0"])
        try run(["ip", "-n", namespace, "link", "set", "eth0", "up"])
        if resolver {
            // ip-netns(8) puts it over /etc/resolv.conf, for the processes that it starts there.
            let etc = "/etc/netns/\(namespace)"
            try FileManager.default.createDirectory(atPath: etc, withIntermediateDirectories: true)
            try "nameserver \(hub.address)\n".write(toFile: etc + "/resolv.conf", atomically: false, encoding: .utf8)
        }
        return host
    }

    /// The way from one host to a server: its address and port, or those of the proxy in between.
    func way(from host: Host, to server: Host, port: UInt16) throws -> (address: String, port: UInt16) {
        guard !hasNamespaces else { return (server.address, port) }
        let way = Way(from: host.name, to: server.name)
        let known = proxies.withLock { $0[way] }
        let proxy = try known ?? TCPProxy(target: port)
        proxies.withLock { $0[way] = proxy }
        return (hub.address, proxy.port)
    }

    /// The proxies on the ways from and to a host, or between two.
    private func proxies(of host: Host, peer: Host?) -> [TCPProxy] {
        proxies.withLock { proxies in
            proxies.filter { way, _ in
                let ends = [way.from, way.to]
                return ends.contains(host.name) && (peer.map { ends.contains($0.name) } ?? true)
            }.map(\.value)
        }
    }

    /// Packets that vanish at a host until lifted.
    struct Cut: Sendable {
        let host: Host
        let comment: String
        let rules: [[String]]
        /// In place of rules.
        let proxies: [TCPProxy]

        /// How many packets have vanished; with proxies, how many bytes wait.
        func packets() throws -> Int {
            guard host.namespace != nil else { return proxies.reduce(0) { $0 + $1.keptBack } }
            return try ["INPUT", "OUTPUT"].reduce(0) { sum, chain in
                let table = try run(host.enter + ["iptables", "-w", "-nvxL", chain])
                let ours = table.split(separator: "\n").filter { $0.contains("/* \(comment) */") }
                return sum + ours.reduce(0) { $0 + (Int($1.split(separator: " ").first ?? "") ?? 0) }
            }
        }

        /// A proxy keeps what it swallowed and would deliver it now, as a network does; `forget` for the dead, who send
        /// nothing again.
        func lift(forget: Bool = false) throws {
            for proxy in proxies {
                if forget { proxy.resetAll() }
                proxy.set(.pass)
            }
            for rule in rules { try run(host.enter + ["iptables", "-w", "-D"] + rule) }
        }
    }

    /// Makes packets vanish at a host.
    /// - Parameters:
    ///   - peer: only those from and to this host.
    ///   - share: only that share of them, by chance.
    func cut(_ host: Host, _ directions: [Direction], peer: Host? = nil, share: Double? = nil) throws -> Cut {
        guard hasNamespaces else {
            let cut = Cut(host: host, comment: "", rules: [], proxies: proxies(of: host, peer: peer))
            let mode: TCPProxy.Mode =
                directions.count == 2 ? .blackHole : directions == [.into] ? .blackHoleToClient : .blackHoleToServer
            for proxy in cut.proxies { proxy.set(mode) }
            return cut
        }
        let number = rules.withLock {
            $0 += 1
            return $0
        }
        let comment = "chaos-\(number)"
        let cut = Cut(
            host: host, comment: comment,
            rules: directions.map { direction in
                let whom = peer.map { [direction == .into ? "-s" : "-d", $0.address] } ?? []
                let chance =
                    share.map { ["-m", "statistic", "--mode", "random", "--probability", "\($0)"] } ?? []
                return [direction.rawValue] + whom + chance + ["-m", "comment", "--comment", comment, "-j", "DROP"]
            }, proxies: [])
        for rule in cut.rules { try run(host.enter + ["iptables", "-w", "-I"] + rule) }
        return cut
    }

    /// Makes what a host sends slow until lifted.
    func slow(_ host: Host) throws {
        guard let namespace = host.namespace else {
            for proxy in proxies(of: host, peer: nil) { proxy.set(.delay(.milliseconds(350))) }
            return
        }
        let how =
            slowness == .netem
            ? ["netem", "delay", "250ms", "200ms", "limit", "1000"]
            : ["tbf", "rate", "12kbit", "burst", "1600", "latency", "4s"]
        try run(["tc", "-n", namespace, "qdisc", "replace", "dev", "eth0", "root"] + how)
    }

    /// Ends `slow`. Says how many packets (with proxies: bytes) it made wait.
    func unslow(_ host: Host) throws -> Int {
        guard let namespace = host.namespace else {
            let proxies = proxies(of: host, peer: nil)
            defer { for proxy in proxies { proxy.set(.pass) } }
            return proxies.reduce(0) { $0 + $1.keptBack }
        }
        let words = try run(["tc", "-n", namespace, "-s", "qdisc", "show", "dev", "eth0"])
            .components(separatedBy: CharacterSet(charactersIn: " (),\n"))
        func number(after word: String) -> Int { words.firstIndex(of: word).flatMap { Int(words[$0 + 1]) } ?? 0 }
        try run(["tc", "-n", namespace, "qdisc", "delete", "dev", "eth0", "root"])
        guard slowness == .tokens else { return words.firstIndex(of: "pkt").flatMap { Int(words[$0 - 1]) } ?? 0 }
        return number(after: "overlimits")
    }
}

extension Network {
    /// Ends the proxies. The janitor ends all else.
    func close() {
        proxies.withLock { proxies in
            for proxy in proxies.values { proxy.close() }
            proxies = [:]
        }
    }
}
