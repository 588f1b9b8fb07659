// The tests' own PostgreSQL: starts, restarts, freezes, follows, and leaves nothing behind.

import Foundation
import TestSupport
import Testing

@Suite struct PrivatePostgresTests {
    @Test func startsAnswersRestartsAndLeavesNothing() throws {
        let server = try PrivatePostgres(maxConnections: 7, settings: ["work_mem": "5MB"])
        try server.start()
        #expect(try server.psql("SELECT 1") == "1")
        #expect(try server.psql("SHOW max_connections; SHOW work_mem") == "7\n5MB")
        let before = try server.psql("SELECT pg_postmaster_start_time()")
        try server.restart(.immediate)
        #expect(try server.psql("SELECT pg_postmaster_start_time()") != before)
        server.signal(SIGSTOP)
        server.signal(SIGCONT)
        #expect(try server.psql("SELECT 2") == "2")
        try server.stop()
        #expect(server.postmaster == nil)
        try server.start()
        server.remove()
        #expect(!FileManager.default.fileExists(atPath: server.directory))
    }

    @Test func aStandbyFollowsItsPrimaryAndCanBePromoted() throws {
        let primary = try PrivatePostgres.started()
        let standby = try PrivatePostgres(standbyOf: primary)
        try standby.start()
        #expect(try standby.psql("SELECT pg_is_in_recovery()") == "t")
        _ = try primary.psql("CREATE TABLE seen (a int)")
        try eventually("the table reaches the standby") {
            try standby.psql("SELECT count(*) FROM pg_class WHERE relname = 'seen'") == "1"
        }
        try standby.promote()
        #expect(try standby.psql("SELECT pg_is_in_recovery()") == "f")
    }
}
