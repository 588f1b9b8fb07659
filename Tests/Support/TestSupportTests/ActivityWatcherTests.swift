// The watcher must see each of the three faults in a session that is named like a sidecar's, and nothing in one that
// behaves; else its silence in the fault matrix would mean nothing.

import Foundation
import TestSupport
import Testing

@Suite struct ActivityWatcherTests {
    @Test func itSeesSessionsThatHoldOthersUpAndOnlyThose() async throws {
        try await onOwnThread {
            let server = try PrivatePostgres.started()
            defer { server.remove() }
            func watched(_ misbehave: () throws -> [DirectSession]) throws -> (faults: [String], sessionsSeen: Int) {
                let watcher = ActivityWatcher(url: server.socketURL, database: "postgres", except: "sidecar:%")
                let sessions = try misbehave()
                let before = watcher.looks
                try eventually("several samples are taken") { watcher.looks >= before + 5 }
                return withExtendedLifetime(sessions) { watcher.end() }
            }
            func session(_ name: String = "sidecar keeper") throws -> DirectSession {
                try DirectSession(server.socketURL, applicationName: name)
            }

            let idle = try watched {
                let keeper = try session()
                try keeper.rows("BEGIN")
                try keeper.rows("SELECT 1")
                return [keeper]
            }
            #expect(idle.faults.contains { $0.contains("idle in transaction") }, "\(idle)")

            let snapshot = try watched {
                let keeper = try session()
                try keeper.rows("BEGIN ISOLATION LEVEL REPEATABLE READ")
                try keeper.rows("SELECT count(*) FROM pg_class")
                return [keeper]
            }
            #expect(snapshot.faults.contains { $0.contains("holding back vacuum") }, "\(snapshot)")

            let waiting = try watched {
                let holder = try session("test")
                try holder.rows("SELECT pg_advisory_lock(7)")
                let keeper = try session()
                try keeper.send("SELECT pg_advisory_lock(7)")
                return [holder, keeper]
            }
            #expect(waiting.faults.contains { $0.contains("waiting for a lock") }, "\(waiting)")

            let behaving = try watched {
                let child = try session("sidecar:5:abc")
                try child.rows("BEGIN")
                let stranger = try session("psql")
                try stranger.rows("BEGIN")
                let keeper = try session()
                for _ in 0..<20 { try keeper.rows("SELECT pg_sleep(0.01)") }
                return [child, stranger, keeper]
            }
            #expect(behaving.faults.isEmpty && behaving.sessionsSeen > 0, "\(behaving)")
        }
    }
}
