// Which scenarios run side by side. They mostly wait for time to pass, so there are three for each processor (`Places`); what
// takes the whole machine runs alone, at the end. Most scenarios share one server; where the server is what fails, or where
// roles are made, which belong to a whole server, a scenario has its own.

import Synchronization
import TestSupport
import Testing

/// Faults of keepers, guards and children.
@Suite(.onStage) struct ProcessMatrix {}

/// Faults of the database and of the network, and the commands that look at both.
@Suite(.onStage) struct DatabaseMatrix {}

/// Lets a test case begin when there is a place for it.
struct OnStage: SuiteTrait, TestTrait, TestScoping {
    private static let places = Places(Places.usualCount)

    let isRecursive = true

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let need = test.traits.compactMap { ($0 as? Needs)?.need }.first ?? .usual
        try await Self.places.with(need) {
            // Testing tells of tests as started that still wait for a place; who looks for one that hangs reads this.
            print("on stage: \(test.name)")
            let clock = ContinuousClock()
            let began = clock.now
            defer { print("off stage: \(test.name) after \(began.duration(to: clock.now))") }
            try await function()
        }
    }
}

/// What a test needs that needs more than a place.
struct Needs: TestTrait {
    let need: Places.Need
}

extension Trait where Self == OnStage {
    /// Runs as soon as there is a place.
    static var onStage: OnStage { OnStage() }
}

extension Trait where Self == Needs {
    /// It takes long: first of all.
    static var early: Needs { Needs(need: .early) }
    /// It takes every processor, or fills the table of processes: last of all, and with nobody beside it.
    static var alone: Needs { Needs(need: .alone) }
}

/// The server that scenarios share when it is not the one that fails.
enum Servers {
    private static let server = Mutex<PrivatePostgres?>(nil)

    static func shared() throws -> PrivatePostgres {
        try server.withLock { server in
            if let server { return server }
            let started = try PrivatePostgres.started(maxConnections: 300)
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
