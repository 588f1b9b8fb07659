// A database that can be connected to and refuses claims, and one whose notifications come as a flood: who stands by must not
// look ready when it could not lead, and who leads must not lose the lease over other people's notifications.

import Clock
import Foundation
import Synchronization
import TestSupport
import Testing

extension DatabaseMatrix {
    @Suite struct StandbyHealth {
        @Test(.early) func whoseClaimsAreRefusedIsNotReadyAndSaysWhy() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: [])
                let admin = try scenario.session()
                try eventually("both are ready") {
                    try pair.leader.probe("ready") == .code(0) && pair.standby.probe("ready") == .code(0)
                }
                #expect(try scenario.command(["check"]).exit == .code(0))
                // The leader loses its lease over it, too: nobody can write the record any more.
                try admin.rows("CREATE PUBLICATION everything FOR ALL TABLES")
                try admin.rows("ALTER TABLE sidecar.lease REPLICA IDENTITY NOTHING")
                let standby = pair.standby
                try eventually("the standby is not ready, and says why") {
                    try standby.probe("ready") == .code(1) && standby.probeOutput.contains("replica identity")
                        && standby.log.contains("ERROR not ready, because this sidecar could not take over the lease")
                }
                #expect(try standby.probe("live") == .code(0))
                let check = try scenario.command(["check"])
                #expect(check.exit == .code(1), "\(check.output)")
                #expect(check.output.contains("REPLICA IDENTITY DEFAULT"), "\(check.output)")
                try eventually("the list of members has it") {
                    try scenario.lease([]).output.split(separator: "\n")
                        .contains { $0.hasPrefix("\(standby.node) ") && $0.contains("standby  no ") }
                }
                // Some more claims are refused, and not said again.
                try scenario.waitForPolls(10, session: admin)
                let said = standby.log.components(separatedBy: "not ready, because").count - 1
                #expect(said == 1, "\(standby.log)")

                // Repaired in time, the leader would just go on.
                try scenario.gone(pair.tree.id)
                try admin.rows("ALTER TABLE sidecar.lease REPLICA IDENTITY DEFAULT")
                _ = try scenario.leader(after: pair.tree.id, members: 1)
                try eventually("it is ready again") { try standby.probe("ready") == .code(0) }
            }
        }

        @Test func whoCouldNotClaimBesideALivingLeaderIsNotReadyEither() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let first = try scenario.start("a", child: [])
                let tree = try scenario.leader(members: 1).tree
                let admin = try scenario.session()
                let role = scenario.database + "_reader"
                try admin.rows("CREATE ROLE \(role) LOGIN")
                defer { _ = try? admin.rows("DROP OWNED BY \(role); DROP ROLE \(role)") }
                try admin.rows("GRANT USAGE ON SCHEMA sidecar TO \(role)")
                try admin.rows("GRANT SELECT ON ALL TABLES IN SCHEMA sidecar TO \(role)")
                try admin.rows("GRANT INSERT, UPDATE, DELETE ON sidecar.member TO \(role)")
                scenario.user = role
                let second = try scenario.start("b", child: [])
                try eventually("b says why it is not ready") {
                    try second.probe("ready") == .code(1) && second.probeOutput.contains("permission denied")
                }
                try eventually("the list of members has it") {
                    try scenario.lease([]).output.split(separator: "\n")
                        .contains { $0.hasPrefix("b ") && $0.contains("standby  no ") }
                }
                #expect(second.log.contains("GRANT USAGE ON SCHEMA sidecar"), "\(second.log)")
                try admin.rows("GRANT INSERT, UPDATE, DELETE ON sidecar.lease TO \(role)")
                try eventually("b is ready") { try second.probe("ready") == .code(0) }
                #expect(first.exit == nil && scenario.isAlive(tree.id) && scenario.recording.trees.count == 1)
            }
        }

        @Test(.alone) func aFloodOfNotificationsCostsNoLease() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                let pair = try scenario.pair(child: [])
                let flood = try Flood(scenario, sessions: 8)
                defer { flood.end() }
                // Three TTLs of it: more than any lease lasts that is not renewed.
                for _ in 1...15 { try scenario.justRenewed(pair.leader) }
                try scenario.steady(pair.tree.id)
                try eventually("both hang up") {
                    [pair.leader, pair.standby].allSatisfy { $0.log.contains("cannot listen for notifications") }
                }
                #expect(flood.sent > 1000, "\(flood.sent) notifications are no flood")
                #expect(!pair.leader.log.contains("lost the lease"), "\(scenario.report)")
                #expect(try pair.standby.probe("ready") == .code(0))
                #expect(scenario.recording.trees.count == 1, "\(scenario.report)")
                flood.end()
                // It polls, and that is enough.
                pair.leader.signalKeeper(SIGTERM)
                _ = try scenario.leader(after: pair.tree.id, members: 1)
            }
        }

        @Test func aNotificationMakesAStandbyLook() async throws {
            try await Scenario.run(on: try Servers.shared()) { scenario in
                // It polls every twelve seconds.
                try scenario.start("a", options: ["--ttl", "60s"], child: [])
                let admin = try scenario.session()
                try eventually("it listens") { try scenario.listeners(admin) == 1 }
                let last = """
                    SELECT extract(epoch FROM query_start), clock_timestamp() - query_start > interval '1 second'
                    FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'sidecar-keeper:%'
                    """
                var before: String?
                try eventually("it has nothing to do") {
                    guard let row = try admin.rows(last).first, row[1] == "t" else { return false }
                    before = row[0]
                    return true
                }
                try admin.rows("NOTIFY sidecar, '\(scenario.lease)'")
                try eventually("it looks", timeout: .seconds(7)) { try admin.rows(last).first?[0] != before }
            }
        }

        @Test func aLoginThatBecomesAnotherRoleEndsAFrozenLeadersSession() async throws {
            // Roles belong to the whole server.
            let server = try PrivatePostgres.started()
            defer { server.remove() }
            try await Scenario.run(on: server) { scenario in
                let admin = try scenario.session()
                if try admin.value("SELECT 1 FROM pg_roles WHERE rolname = 'token'") == nil {
                    try admin.rows("CREATE ROLE token LOGIN IN ROLE airflow")
                    try admin.rows("ALTER ROLE token SET role = airflow")
                    try admin.rows("CREATE ROLE narrow LOGIN NOINHERIT IN ROLE airflow")
                    try admin.rows("ALTER ROLE narrow SET role = airflow")
                }
                scenario.user = "token"
                let pair = try scenario.pair(child: [])
                let backendStart = try scenario.row(admin, "backend_start")
                #expect(backendStart != nil)
                let check = try scenario.command(["check"])
                #expect(check.exit == .code(0) && check.output.contains("logs in as \"token\""), "\(check.output)")
                #expect(check.output.contains("pg_read_all_stats TO \"airflow\""), "\(check.output)")
                pair.leader.signalKeeper(SIGSTOP)
                defer { pair.leader.signalKeeper(SIGCONT) }
                _ = try scenario.leader(after: pair.tree.id, members: 1)
                #expect(
                    pair.standby.log.contains("terminated 1 database session(s) that held the lock"),
                    "\(scenario.report)")

                scenario.user = "narrow"
                let other = try scenario.command(["check"])
                #expect(other.exit == .code(0), "\(other.output)")
                #expect(other.output.contains("may not terminate the sessions of \"narrow\""), "\(other.output)")
            }
        }
    }
}

/// Sessions of a role that may do no more than connect, which notify as fast as they can.
private final class Flood: Sendable {
    private let over = Atomic(false)
    private let count = Atomic(0)
    private let threads: Int

    var sent: Int { count.load(ordering: .relaxed) }
    private let running: Atomic<Int>

    init(_ scenario: Scenario, sessions: Int) throws {
        threads = sessions
        running = Atomic(sessions)
        let admin = try scenario.session()
        try admin.rows("SELECT pg_advisory_lock(2)")
        if try admin.value("SELECT 1 FROM pg_roles WHERE rolname = 'stranger'") == nil {
            try admin.rows("CREATE ROLE stranger LOGIN")
        }
        let url = "postgresql://stranger@127.0.0.1:\(scenario.postgres.port)/\(scenario.database)"
        for _ in 0..<sessions {
            startThread("flood") { [self] in
                let session = try? DirectSession(url)
                while !over.load(ordering: .relaxed) {
                    _ = try? session?.rows(
                        "SELECT pg_notify('sidecar', repeat('x', 7000) || g) FROM generate_series(1, 20) AS g")
                    count.wrappingAdd(20, ordering: .relaxed)
                }
                running.wrappingSubtract(1, ordering: .relaxed)
            }
        }
    }

    /// Ends it and waits until it is over.
    func end() {
        over.store(true, ordering: .relaxed)
        try? eventually("the flood is over") { running.load(ordering: .relaxed) == 0 }
    }
}

extension Scenario {
    /// The sessions that listen.
    fileprivate func listeners(_ session: DirectSession) throws -> Int {
        let sql = """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
                AND application_name LIKE 'sidecar-listener:%' AND query LIKE '%LISTEN%'
            """
        return try session.value(sql).flatMap { Int($0) } ?? -1
    }

    /// Waits until the sidecars' sessions have been seen with so many statements in turn.
    fileprivate func waitForPolls(_ count: Int, session: DirectSession) throws {
        var seen: Set<String> = []
        try eventually("\(count) statements") {
            let sql = """
                SELECT pid || ' ' || query_start FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'sidecar-keeper:%'
                """
            for row in try session.rows(sql) { if let start = row[0] { seen.insert(start) } }
            return seen.count >= count
        }
    }
}
