// The two rows of scenarios that run side by side; within a row one follows the other, because more than two at a time
// make two cores too noisy for a TTL of three seconds. Faults of processes share a server; so do those of rows and
// networks; faults of the server itself each get their own.

import Synchronization
import TestSupport
import Testing

/// Faults of keepers, guards and children.
@Suite(.serialized) struct ProcessMatrix {}

/// Faults of the database and of the network, and the commands that look at both.
@Suite(.serialized) struct DatabaseMatrix {}

/// The server that scenarios share when it is not the one that fails.
enum Servers {
    private static let server = Mutex<PrivatePostgres?>(nil)

    static func shared() throws -> PrivatePostgres {
        try server.withLock { server in
            if let server { return server }
            let started = try PrivatePostgres.started(maxConnections: 100)
            server = started
            return started
        }
    }
}

extension Scenario {
    /// Two sidecars, one of which leads: says which.
    func pair(options: [String] = [], child: [String] = Scenario.allShapes, asInit: Bool = false) throws -> Pair {
        let sidecars = [
            try start("a", options: options, child: child, asInit: asInit),
            try start("b", options: options, child: child, asInit: asInit),
        ]
        let (leader, tree) = try leader(members: Self.members(of: child))
        return Pair(leader: leader, tree: tree, standby: sidecars.first { $0 !== leader } ?? leader)
    }

    /// A leader that reaches the database through a proxy, and a standby that does not.
    func pairWithProxy() throws -> (pair: Pair, proxy: TCPProxy) {
        let proxy = try proxy()
        let sidecar = try start("a", through: proxy)
        let (leader, tree) = try leader()
        #expect(leader === sidecar)
        return (Pair(leader: leader, tree: tree, standby: try standby("b")), proxy)
    }

    /// One more sidecar, ready as a standby.
    func standby(_ node: String) throws -> SidecarProcess {
        let sidecar = try start(node)
        try eventually("\(node) stands by") { sidecar.readiness?.role == "standby" }
        return sidecar
    }

    private static func members(of child: [String]) -> Int {
        guard let list = child.firstIndex(of: "--members"), list + 1 < child.count else { return 1 }
        return child[list + 1].split(separator: ",").count + 1
    }
}

/// Who leads and who waits at the beginning of a scenario.
struct Pair {
    let leader: SidecarProcess
    let tree: RecordedTree
    let standby: SidecarProcess
}
