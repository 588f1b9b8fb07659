// Where the database is found, what Airflow's settings become, and that no error ever shows a password.

import Clock
import Foundation
import Helpers
import Postgres
import Testing
import Text

@testable import Settings

@Suite("Finding the database") struct DatabaseSourceTests {
    private func find(_ variables: [String: String], option: String? = nil) throws -> DatabaseSource {
        try DatabaseSource.find(option: option, environment: Environment(variables))
    }

    private func refusal(_ variables: [String: String], option: String? = nil) -> Failure? {
        do {
            _ = try find(variables, option: option)
            return nil
        } catch let failure as Failure {
            return failure
        } catch {
            return nil
        }
    }

    @Test("The option wins over its variable, that over PG*, that over Airflow's settings") func precedence() throws {
        var variables = [
            "AIRFLOW__CORE__SQL_ALCHEMY_CONN": "postgresql://u@airflow-core/a",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://u@airflow/a",
        ]
        #expect(try find(variables).settings.host == "airflow")
        #expect(try find(variables).origin == "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
        variables["PGHOST"] = "ignored-by-name-only"
        #expect(try find(variables).origin == "PGHOST")
        #expect(try find(variables).passedOver == "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
        #expect(try find(["PGHOST": "alone"]).caution == nil)
        variables["SIDECAR_DATABASE_URL"] = "postgresql://u@own/a"
        #expect(try find(variables).settings.host == "own")
        #expect(try find(variables).caution == nil)
        #expect(try find(variables, option: "host=option user=u").settings.host == "option")
    }

    @Test(
        "SQLAlchemy URLs become libpq's",
        arguments: [
            ("postgresql+psycopg2://u:p@h:5433/d", "postgresql://u:p@h:5433/d"),
            ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql://u:p@h/d?sslmode=require"),
            ("postgres://u@h/d", "postgresql://u@h/d"),
            (
                "postgresql+psycopg2://u@/d?host=a:5432&host=b:5433",
                "postgresql://u@/d?host=a,b&port=5432,5433"
            ),
            (
                "postgresql+psycopg://u@h/d?prepared_statement_cache_size=0&sslmode=verify-full",
                "postgresql://u@h/d?sslmode=verify-full"
            ),
            ("postgresql+psycopg2://u@/d?host=/var/run/postgresql", "postgresql://u@/d?host=/var/run/postgresql"),
            ("postgresql://u:p%40ss%3Aw@h/d?options=-csearch_path%3Dx", "postgresql://u:p%40ss%3Aw@h/d"),
        ])
    func translates(from: String, to: String) throws {
        #expect(try SQLAlchemyURL.libpq(from) == to)
        _ = try ConnectionSettings(to)
    }

    @Test(
        "An Airflow on another database is told about --database-url",
        arguments: [
            "mysql+mysqldb://root:secret@h/d", "sqlite:////tmp/airflow.db", "MSSQL://root:secret@h/d",
        ])
    func otherDatabase(url: String) throws {
        let failure = try #require(refusal(["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url]))
        #expect(failure.code == 78)
        #expect(failure.message.contains("--database-url"))
        #expect(!failure.message.contains("secret"))
    }

    @Test(
        "No error shows the password, whatever is wrong with the URL",
        arguments: [
            "postgresql://u:hunter2@h:port/d", "postgresql://u:hunter2@h/d?nonsense=1", "postgresql://u:hunter2@[::1/d",
            "postgresql://u:hunter2%zz@h/d", "host=h password=hunter2 nonsense=1", "host=h password='hunter2",
            "hunter2",
            "postgresql+psycopg2://u:hunter2@h:port/d", "u:hunter2@h/d", "postgresql//u:hunter2@h/d",
            "hunter2://x", "postgresql+psycopg2:/u:hunter2@h/d", "host=u:hunter2@127.0.0.1",
            "postgresql:///d?host=u:hunter2@h",
            "postgresql://h/d;user=u;password=hunter2", "postgresql://u@h/d&password=hunter2",
            "postgresql://h/d?user=u:hunter2",
            "postgresql://u%3Ahunter2@h/d", "postgresql://u@h/d:hunter2", "dbname=postgresql://u:hunter2@h/d",
            "postgresql://u@h/d\nsecond line hunter2", "jdbc:postgresql://h/d?password=hunter2",
            "'postgresql://u:hunter2@h/d'",
            // Unescaped '?', '@' and ',' in the password: what is between them would be taken for a host.
            "postgresql+psycopg2://u:a@hunter2,@h/d", "postgresql+psycopg2://:?0@hunter2@,",
            "postgresql+psycopg2://:?0@hunter2,@",
            // An accent behind a separator hides it from whoever looks at Characters; libpq looks at bytes.
            "postgresql://u:p@hunter2@\u{301}h/d", "dbname=u:hunter2@\u{301}h", "dbname='x password = hunter2'",
            // All of '/', '?' and '=' in it: what is before would be a host or a database, what is behind a parameter.
            "postgresql://me:a@hunter2?options=9@127.0.0.1:1/d", "postgresql://me:12/hunter2?options=9@127.0.0.1:1/d",
            "postgresql+psycopg2://me:/hunter2?timeout=9@127.0.0.1:1/d", "postgresql://u:/hunter2?user=@h/d",
            "postgresql+psycopg2://u:p@hunter2?ssl=@h/d",
            "postgresql://h:5432?password=p@hunter2", "user=u:\u{301}hunter2", "postgresql://u@h/d\u{2028}hunter2",
        ])
    func noPasswordInErrors(url: String) {
        for variables in [["SIDECAR_DATABASE_URL": url], ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url]] {
            guard let failure = refusal(variables) else {
                // Not refused: then what is shown of it must be clean.
                let shown = (try? find(variables).settings.description) ?? ""
                #expect(!shown.contains("hunter2"), "\(shown)")
                continue
            }
            #expect(failure.code == 78)
            #expect(!failure.message.contains("hunter2"), "\(failure.message)")
            #expect(!failure.message.contains("\n"))
        }
    }

    @Test(
        "A '@' among the parameters is refused in words that help, and a '?' in a password is none",
        arguments: ["postgresql", "postgresql+psycopg2"])
    func atAmongParameters(scheme: String) throws {
        let failure = try #require(refusal(["SIDECAR_DATABASE_URL": "\(scheme)://u:a?b=c@h/d"]))
        #expect(failure.code == 78 && failure.message.contains("%40") && failure.message.contains("%3F"))
        #expect(try find(["SIDECAR_DATABASE_URL": "\(scheme)://u:a?b@h/d?sslmode=require"]).settings.host == "h")
        #expect(try find(["SIDECAR_DATABASE_URL": "\(scheme)://h/d?user=u%40server"]).settings.user == "u@server")
        let other = try #require(refusal(["SIDECAR_DATABASE_URL": "mysql://u:a?b=c@h/d"]))
        #expect(other.message.contains("points to mysql"))
    }

    @Test("A _CMD setting is run without a shell, as Airflow does") func command() throws {
        let source = try find(["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "printf '%s\\n' 'postgresql://u@cmd/d'"])
        #expect(source.settings.host == "cmd")
    }

    @Test(
        "A _CMD that fails, prints nothing or cannot be run is one clear line",
        arguments: [
            "false", "true", "/nonexistent/command", "sh -c 'echo hunter2 >&2; exit 3'", "unbalanced 'quote",
        ])
    func failingCommand(command: String) throws {
        let failure = try #require(refusal(["AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD": command]))
        #expect(failure.code == 78)
        #expect(failure.message.contains("AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD"))
        #expect(!failure.message.contains("hunter2"))
    }

    @Test("A newline at the end of a URL, as files have it, is not part of it") func trailingNewline() throws {
        #expect(try find(["SIDECAR_DATABASE_URL": " postgresql://u@h/d\n"]).settings.database == "d")
    }

    @Test("A variable of blanks is refused, not taken for libpq's defaults", arguments: [" ", "\n", " \t\n"])
    func blankVariable(value: String) throws {
        let variables = ["SIDECAR_DATABASE_URL": value, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://u@h/d"]
        #expect(refusal(variables)?.code == 78)
    }

    @Test("A URL that was not UTF-8 is refused, not repaired") func repaired() throws {
        let failure = try #require(refusal(["SIDECAR_DATABASE_URL": "postgresql://u:p\u{FFFD}ss@h/d"]))
        #expect(failure.code == 78 && failure.message.contains("UTF-8"))
    }

    @Test("An empty option is refused, not taken for libpq's defaults") func emptyOption() throws {
        #expect(refusal(["SIDECAR_DATABASE_URL": "postgresql://u@h/d"], option: "")?.code == 78)
    }

    /// A file with that text, read as a setting.
    private func fromFile(_ text: String) throws -> DatabaseSource {
        let path = NSTemporaryDirectory() + "sidecar-url-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return try find(["SIDECAR_DATABASE_URL_FILE": path, "PGHOST": "x", "AIRFLOW__CORE__SQL_ALCHEMY_CONN": "y"])
    }

    @Test("A file's URL is read, in every form, without its last newline") func file() throws {
        for url in [
            "postgresql://u:hunter2@h/d\n", "  host=h user=u dbname=d\n\n", "postgresql+psycopg2://u:hunter2@h/d",
        ] {
            let source = try fromFile(url)
            #expect(source.settings.description == "u@h:5432/d")
            #expect(source.origin == "SIDECAR_DATABASE_URL_FILE")
        }
    }

    @Test("What is no such file is one clear line, without its content") func noFile() throws {
        for text in [
            "", " \n", "hunter2", "postgresql://u:hunter2@h/d\nhunter2", String(repeating: "hunter2", count: 10_000),
        ] {
            do {
                _ = try fromFile(text)
                Issue.record("'\(text.prefix(40))' is taken")
            } catch let failure as Failure {
                #expect(failure.code == 78 && !failure.message.contains("hunter2"), "\(failure.message)")
                #expect(failure.message.contains("SIDECAR_DATABASE_URL_FILE"))
            }
        }
        let folder = NSTemporaryDirectory() + "sidecar-url-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        #expect(mkfifo(folder + "/pipe", 0o600) == 0)
        for path in [
            folder, folder + "/pipe", folder + "/absent", "/dev/zero", "postgresql://u:hunter2@h/d", "u:hunter2@h/d",
        ] {
            let failure = try #require(refusal(["SIDECAR_DATABASE_URL_FILE": path]))
            #expect(failure.code == 78 && !failure.message.contains("hunter2"), "\(failure.message)")
        }
    }

    @Test("A URL and a file contradict each other, on the same level") func fileAndURL() throws {
        let url = "postgresql://u@own/a"
        let both = try #require(refusal(["SIDECAR_DATABASE_URL": url, "SIDECAR_DATABASE_URL_FILE": "/f"]))
        #expect(both.code == 78)
        #expect(both.message.contains("SIDECAR_DATABASE_URL and SIDECAR_DATABASE_URL_FILE contradict"))
        // An option wins over a variable.
        #expect(try find(["SIDECAR_DATABASE_URL_FILE": "/f"], option: url).settings.host == "own")
        #expect(throws: Failure.self) {
            try DatabaseSource.find(option: url, file: "/f", environment: Environment([:]))
        }
        #expect(throws: Failure.self) { try DatabaseSource.find(option: nil, file: "", environment: Environment([:])) }
    }

    @Test("Read again, it may bring other credentials, and no other place") func readAgain() throws {
        let path = NSTemporaryDirectory() + "sidecar-url-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        func put(_ url: String) throws { try Data(url.utf8).write(to: URL(fileURLWithPath: path)) }
        try put("postgresql://u:one@h1,h2:6432/d")
        let source = try find(["SIDECAR_DATABASE_URL_FILE": path])
        func again() throws -> SourceReading.Answer? {
            try source.startReading(HelperPrograms())?.wait(limit: .seconds(30))
        }
        try put("postgresql://other:two@h1,h2:6432/d\n")
        #expect(try again()?.get().description.hasPrefix("other@") == true)
        for url in ["postgresql://u:hunter2@h1,h3:6432/d", "postgresql://u:hunter2@h1,h2:6432/e", "host=h1 user=d"] {
            try put(url)
            guard case .failure(let failure) = try again() else {
                Issue.record("\(url) is another place")
                continue
            }
            #expect(failure.message.contains("another database") && !failure.message.contains("hunter2"))
        }
        #expect(try find(["SIDECAR_DATABASE_URL": "postgresql://u@h/d"]).startReading(HelperPrograms()) == nil)
    }

    @Test("Nothing given at all says what could be") func nothing() throws {
        let failure = try #require(refusal(["PGPASSWORD": "x"]))
        #expect(failure.code == 78)
        #expect(failure.message.contains("SIDECAR_DATABASE_URL"))
    }
}
