// Connection strings: what they mean, and that nothing ever said about them holds the password.

import Foundation
import Testing

@testable import Postgres

@Suite struct SettingsTests {
    @Test func describesWhereToWithoutSecrets() throws {
        let settings = try ConnectionSettings("postgresql://me:hunter2secret@a:1,b:2,[::1]:3/db?sslmode=require")
        #expect(settings.description == "me@a:1,b:2,[::1]:3/db")
        #expect(settings.hosts == ["a", "b", "::1"] && settings.host == "a" && settings.port == 1)
        #expect(settings.database == "db" && settings.user == "me" && settings.sslmode == "require")
        var dumped = ""
        dump(settings, to: &dumped)
        for text in ["\(settings)", String(reflecting: settings), dumped, "\(Optional(settings) as Any)"] {
            #expect(!text.contains("hunter2secret"))
        }
    }

    @Test func onePortServesAllHostsAndOverridesWin() throws {
        let settings = try ConnectionSettings("host=a,b port=7 user=u dbname=d", overrides: ["dbname": "other"])
        #expect(settings.description == "u@a:7,b:7/other")
        let address = try ConnectionSettings("host=db.example hostaddr=10.0.0.1 user=u dbname=d")
        #expect(address.entries == [.init(host: "db.example", address: "10.0.0.1", port: 5432)])
        let empty = try ConnectionSettings("host=a, user=u dbname=d")
        #expect(empty.hosts.count == 2 && empty.hosts[1].hasPrefix("/"), "an empty entry is the default socket")
    }

    @Test func listsAreTakenApartAsLibpqDoes() throws {
        let settings = try ConnectionSettings("host='a,\u{301}b,/\u{301}c' user=u dbname=d")
        #expect(settings.hosts == ["a", "\u{301}b", "/\u{301}c"])
        #expect(settings.entries.map(\.isSocket) == [false, false, true])
    }

    @Test func whatIsNoUTF8IsRefusedAndNotRepaired() {
        for url in ["postgresql://u:p%ff@h/d", "postgresql://u@h/%C3"] {
            let error = #expect(throws: SettingsError.self) { try ConnectionSettings(url) }
            #expect(error?.reason.contains("not UTF-8") == true)
        }
    }

    @Test func onlyAPrimaryWillDo() throws {
        #expect(try ConnectionSettings("host=a").values["target_session_attrs"] == "read-write")
        for fine in ["any", "primary", "read-write"] {
            #expect(
                try ConnectionSettings("host=a target_session_attrs=\(fine)").values["target_session_attrs"] == fine)
        }
        for useless in ["standby", "prefer-standby", "read-only", "nonsense"] {
            let error = #expect(throws: SettingsError.self) {
                try ConnectionSettings("host=a target_session_attrs=\(useless)")
            }
            #expect(error?.description.contains("target_session_attrs must be") == true)
        }
    }

    @Test func kerberosIsAskedOnlyWhenWanted() throws {
        #expect(try ConnectionSettings("host=a").values["gssencmode"] == "disable")
        #expect(try ConnectionSettings("host=a gssencmode=prefer").values["gssencmode"] == "prefer")
    }

    /// Strings that libpq turns down, most by quoting them whole.
    static let malformed = [
        "postgresql://me:PASSWORD@host:5432x/db?bogus=1", "postgresql://me:PASSWORD@host/db?bogus=PASSWORD",
        "postgresql://me:PASSWORD@[::1/db", "postgresql://me:PASSWORD@[]/db", "postgresql://me:PASSWORD@[::1]x/db",
        "postgresql://me:PASSWORD%@host/db", "postgresql://me:PASSWORD%zz@host/db",
        "postgresql://me:PASSWORD%00@host/db",
        "postgresql://me:p@PASSWORD:x:y@host/db", "postgresql://me:PASSWORD/@host/db?x",
        "postgresql://me:PASSWORD@host/db?sslmode", "postgresql://me:PASSWORD@host/db?a=b=c",
        "postgresql://me:PASSWORD@host:99999/db", "postgresql://me:PASSWORD@host/db?sslmode=PASSWORD",
        "postgres:/me:PASSWORD@host/db", "me:PASSWORD@host/db", "PASSWORD", "password PASSWORD",
        "password=PASSWORD oops", "password='PASSWORD", "password='PASSWORD' PASSWORD", "password = PASSWORD = x y",
        "host=a password=left PASSWORD", "pasword=PASSWORD", "PASSWORD=x", "host=a port=PASSWORD",
        "host=a,b hostaddr=1.1.1.1 password=PASSWORD", "host=a,b port=1,2,3 password=PASSWORD",
        "password=PASSWORD sslmode=nonsense", "password=PASSWORD channel_binding=PASSWORD", "service=PASSWORD",
        "host=a target_session_attrs=PASSWORD", "postgresql://me:PASSWORD@host:port/db", "host=a password=PASSWORD\\",
        "postgresql://me:12/PASSWORD@host/db", "postgresql://me:p@PASSWORD@host/db",
        "postgres://me:p@PASSWORD/@host/db",
        "postgresql://me:PASSWORD\0@host/db", "postgresql://me:PASSWORD@host:/db?password=%",
    ]

    @Test(arguments: malformed) func noErrorQuotesAConnectionString(_ string: String) throws {
        // A few of them are valid after all; then the description must be as silent.
        let password = "s3cr\"'et-w0rd"
        for secret in [password, "plainsecret"] {
            let text: String
            do {
                let settings = try ConnectionSettings(string.replacingOccurrences(of: "PASSWORD", with: secret))
                text = "\(settings) \(String(reflecting: settings))"
            } catch {
                text = "\(error) \(String(reflecting: error))"
                #expect(!error.reason.isEmpty && !error.reason.contains("\n"))
            }
            for part in [secret, "s3cr", "w0rd"] {
                #expect(!text.contains(part), "\(string): \(text)")
            }
        }
    }

    @Test func libpqsProseBecomesOneLineAndACode() {
        let refused = ConnectMessage(
            """
            connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  28000: no pg_hba.conf entry, SSL on
            LOCATION:  ClientAuthentication, auth.c:526
            connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  28000: no pg_hba.conf entry, SSL off
            LOCATION:  ClientAuthentication, auth.c:526

            """)
        #expect(refused.sqlState == "28000" && refused.isAuthentication)
        #expect(
            refused.reason
                == "no pg_hba.conf entry, SSL on (SQLSTATE 28000), no pg_hba.conf entry, SSL off (SQLSTATE 28000)")
        // A translated severity, as a server with another lc_messages sends it.
        let starting = ConnectMessage("connection to server at \"a\", port 1 failed: FATALE:  57P03: in avvio\n")
        #expect(starting.sqlState == "57P03" && !starting.isAuthentication)
        #expect(ConnectMessage("").reason == "connection failed")
    }

    @Test func errorsNameTheReason() {
        for (string, part) in [
            ("postgresql://u:p@h/d?bogus=1", "query parameter"), ("host=a oops", "no '='"),
            ("bogus=1", "keyword that libpq does not know"), ("host=a sslmode=x", "sslmode has a value"),
            ("host=a,b port=1,2,3", "the number of ports"), ("host=a port=0", "1 to 65535"),
            ("service=nowhere", "service"),
        ] {
            let error = #expect(throws: SettingsError.self) { try ConnectionSettings(string) }
            #expect(error?.reason.contains(part) == true, "\(string): \(error?.reason ?? "")")
        }
    }
}
