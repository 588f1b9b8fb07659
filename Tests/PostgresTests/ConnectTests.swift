// Every way into a server, and every way not to get in: what is tried, in which order, and what is said about it.

import Clock
import Foundation
import TestSupport
import Testing

@testable import Postgres

@Suite struct ConnectTests {
    let server: PrivatePostgres
    init() throws { server = try Shared.server.get() }

    @Test func connectsByURLKeywordsAndSocket() throws {
        for conninfo in [
            server.url, server.socketURL,
            "host=127.0.0.1 port=\(server.port) user=postgres dbname=postgres",
            "host=\(server.directory) port=\(server.port) user=postgres dbname=postgres",
        ] {
            let session = try connected(conninfo)
            let row = try session.query(
                Query("SELECT pg_backend_pid() AS pid, current_setting('application_name') AS name"),
                limit: .seconds(30))
            #expect(row.int64(0, "pid") == session.backendPID.map(Int64.init))
            #expect(row.string(0, "name") == "postgres-tests")
            #expect((session.serverVersion ?? 0) >= 120_000)
            #expect(session.peer?.hasSuffix(":\(server.port)") == true)
            session.close()
            #expect(session.isOver && session.pollDescriptors.isEmpty)
        }
    }

    @Test func connectsByNameThroughTheMachinesResolver() throws {
        let session = try connected("postgresql://postgres@localhost:\(server.port)/postgres")
        #expect(session.peer == "localhost:\(server.port) (127.0.0.1)")
    }

    @Test func connectsByEnvironmentAndServiceFile() async throws {
        // In a process of its own: the environment is the whole process's, and not safe to change beside other threads.
        let port = Int(server.port)
        await #expect(processExitsWith: .success) { [port = port as Int] in
            setenv("PGHOST", "127.0.0.1", 1)
            setenv("PGPORT", "\(port)", 1)
            setenv("PGUSER", "postgres", 1)
            setenv("PGDATABASE", "postgres", 1)
            setenv("PGAPPNAME", "not-this-one", 1)
            let session = try connected("")
            let name = try session.query(
                Query("SELECT current_setting('application_name') AS name"), limit: .seconds(30))
            #expect(name.string(0, "name") == "postgres-tests")
            try #expect(ConnectionSettings("").description == "postgres@127.0.0.1:\(port)/postgres")
            // The string wins over the environment.
            try #expect(ConnectionSettings("host=elsewhere").hosts == ["elsewhere"])

            let directory = try makeTemporaryDirectory("sidecar-service")
            defer { try? FileManager.default.removeItem(atPath: directory) }
            try "[lease]\nhost=a,b\nport=1,2\nuser=me\ndbname=db\nsslmode=require\ngssencmode=require\n".write(
                toFile: directory + "/services", atomically: true, encoding: .utf8)
            setenv("PGSERVICEFILE", directory + "/services", 1)
            let settings = try ConnectionSettings("service=lease user=you")
            #expect(settings.description == "you@a:1,b:2/db")
            #expect(settings.sslmode == "require" && settings.values["gssencmode"] == "require")
            try #expect(ConnectionSettings("postgresql:///?service=lease").user == "me")
            #expect(throws: SettingsError.self) { try ConnectionSettings("service=unknown") }
        }
    }

    @Test func aWrongPasswordIsAnAuthenticationFailureThatDoesNotShowIt() throws {
        let strict = try PrivatePostgres(hba: [
            "local all all trust", "host all secretive 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust",
        ])
        try strict.start()
        _ = try strict.psql("CREATE ROLE secretive LOGIN PASSWORD 'correct-horse'")
        func url(_ password: String) -> String {
            "postgresql://secretive:\(password)@127.0.0.1:\(strict.port)/postgres"
        }
        let right = try connected(url("correct-horse"))
        #expect(try right.query(Query("SELECT 1 AS one"), limit: .seconds(30)).int64(0, "one") == 1)

        let wrong = try failure(open(url("battery-staple")))
        #expect(wrong.isAuthentication)
        #expect(wrong.description.contains("password authentication failed for user \"secretive\" (SQLSTATE 28P01)"))
        #expect(wrong.description.contains("127.0.0.1:\(strict.port)"))
        #expect(!"\(wrong) \(String(reflecting: wrong))".contains("battery-staple"))

        let none = try failure(open("postgresql://secretive@127.0.0.1:\(strict.port)/postgres?passfile=/nonexistent"))
        #expect(none.isAuthentication, "\(none)")
    }

    @Test func saysWhichDatabaseIsMissing() throws {
        let failure = try failure(open(server.url(database: "nowhere")))
        #expect(!failure.isAuthentication)
        #expect(failure.description.contains("database \"nowhere\" does not exist (SQLSTATE 3D000)"), "\(failure)")
    }

    @Test func saysWhatDidNotAnswer() throws {
        let port = try freePort()
        let refused = try failure(open("postgresql://u@127.0.0.1:\(port)/d"))
        #expect(
            refused.description
                == "cannot connect to u@127.0.0.1:\(port)/d: 127.0.0.1:\(port): Connection refused")
        let socket = try failure(open("host=/nonexistent user=u dbname=d"))
        #expect(socket.description.contains("/nonexistent:5432: No such file or directory"), "\(socket)")
        let unknown = try failure(open("postgresql://u@no-such-host/d", resolver: tableResolver([:])))
        #expect(unknown.isResolution && unknown.description.contains("no such name"))
    }

    @Test(arguments: [BlackHole.Kind.silent, .full])
    func aBlackHoleCostsOneAttemptAndTheNextHostIsUsed(_ kind: BlackHole.Kind) throws {
        let hole = try BlackHole(kind)
        let limits = Limits(attempt: .milliseconds(500), connect: .seconds(60))
        let alone = try failure(open("postgresql://u@127.0.0.1:\(hole.port)/d", limits: limits))
        guard case .connect(_, let failures) = alone else { throw alone }
        #expect(failures.map(\.step) == [.timeout])
        #expect(alone.description.contains("no answer within 0.5 seconds"), "\(alone)")

        let url = "postgresql://postgres@127.0.0.1:\(hole.port),127.0.0.1:\(server.port)/postgres"
        // The attempt's limit is the second host's, too: not as short as the first half of this test has it.
        let session = try connected(url, limits: Limits(attempt: .seconds(3), connect: .seconds(60)))
        #expect(session.peer == "127.0.0.1:\(server.port)")
    }

    @Test func everyAddressOfANameIsTried() throws {
        let resolver = tableResolver(["db.example": ["127.0.0.9", "127.0.0.1"]])
        let session = try connected(
            "postgresql://postgres@db.example:\(server.port)/postgres", resolver: resolver)
        #expect(session.peer == "db.example:\(server.port) (127.0.0.1)")
    }

    @Test func theWholeConnectHasALimitAndNamesWhatWasNotTried() throws {
        let hole = try BlackHole(.silent)
        let limits = Limits(attempt: .seconds(60), connect: .milliseconds(300))
        let lost = try failure(open("host=127.0.0.1,127.0.0.2 port=\(hole.port) user=u dbname=d", limits: limits))
        guard case .connect(_, let failures) = lost else { throw lost }
        #expect(failures.map(\.reason) == ["no answer within 0.3 seconds", "not tried within 0.3 seconds"])
    }

    @Test func aServerThatOnlyReadsIsPassedOver() throws {
        let reader = try PrivatePostgres.started(settings: ["default_transaction_read_only": "on"])
        let standby = try PrivatePostgres(standbyOf: server)
        try standby.start()
        for passedOver in [reader, standby] {
            let alone = try failure(open(passedOver.url))
            #expect(alone.description.contains("session is read-only"), "\(alone)")
            let both = "postgresql://postgres@127.0.0.1:\(passedOver.port),127.0.0.1:\(server.port)/postgres"
            #expect(try connected(both).peer == "127.0.0.1:\(server.port)")
            // Who asks for any server gets the first one.
            #expect(try connected(both + "?target_session_attrs=any").peer == "127.0.0.1:\(passedOver.port)")
        }
    }
}
