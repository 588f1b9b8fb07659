// What is shown of texts that were not written here: commands, arguments, log messages, cells of tables.

import Logging
import Postgres
import Testing

@testable import Sidecar

@Suite("What is shown of others' texts") struct WordsTests {
    private func isOneLine(_ text: String) -> Bool { !text.unicodeScalars.contains { $0.breaksLine } }

    @Test(
        "Passwords with blanks, quotes and several '@' are hidden whole",
        arguments: [
            "'postgresql://u:my hunter2@h/db'", "postgresql://u:a@b hunter2 c@h/db", #"host=h password=my\ hunter2"#,
            "host=h password=my'hunter2", "host=h password='my' hunter2", "password=a&hunter2", "password=\n hunter2",
            "a://b password='x@y hunter2'", "postgresql://u:Mypassword=hunter2@h", "password=a://b@hunter2",
            "postgresql://h@x?password=hunter2", "postgresql://u:x@h postgresql://u:hunter2@h",
        ])
    func secrets(text: String) {
        let shown = Redaction.withoutSecrets(text)
        #expect(!shown.contains("hunter2") && shown.contains("***"), "\(shown)")
    }

    @Test("What is no secret stays, and where there is one its place is seen") func shownStill() {
        #expect(Redaction.withoutSecrets("a password of me@h, 10 s") == "a password of me@h, 10 s")
        #expect(
            Redaction.withoutSecrets("postgresql://u:p@h/d?x=1&password=y") == "postgresql://***@h/d?x=1&password=***")
        #expect(Redaction.withoutSecrets("postgresql://h/d") == "postgresql://h/d")
        #expect(Redaction.withoutSecrets("x password=") == "x password=***")
    }

    @Test(
        "A command's name that may hold a password is not repeated",
        arguments: [
            "PGPASSWORD=hunter2", "PGPASSWORD=hun/hunter2", "PGPASSWORD=\u{1B}hunter2 airflow scheduler", "a b=hunter2",
            "=hunter2", "postgresql://u:hunter2@h/db", "u:hunter2@h", "/bin/u:hunter2@h", "hunter2\u{9B}2J",
        ])
    func commandNames(name: String) throws {
        let failure = try #require(Executable.problem(name, path: "/usr/bin:/bin"))
        #expect(failure.code == 127 && failure.message.hasPrefix("cannot execute the "))
        #expect(!failure.message.contains("hunter2") && isOneLine(failure.message))
        #expect(failure.message.contains("PGPASSWORD=...") == name.hasPrefix("PGPASSWORD"))
        #expect(failure.message.contains("`env`") == name.hasPrefix("PGPASSWORD"))
    }

    @Test("Other commands' names are, though not at any length") func plainCommandNames() {
        let problem = { Executable.problem($0, path: "/usr/bin:/bin")?.message ?? "" }
        #expect(problem("airfloww") == "cannot execute 'airfloww': not found in PATH")
        #expect(problem("/etc/passwd") == "cannot execute '/etc/passwd': /etc/passwd is not an executable file")
        #expect(problem(String(repeating: "x", count: 100_000)).utf8.count < 300)
    }

    @Test(
        "Arguments in the wrong place that may hold a password are numbers",
        arguments: [
            "postgresql://u:my hunter2@h/db", "u:hunter2@h/db", "host=h password=my\\ hunter2", "PGPASSWORD=hunter2",
            "a\u{1B}[2Jhunter2", "a\r\nhunter2", "\u{301}u:hunter2@h",
        ])
    func unexpected(argument: String) {
        let arguments = ["check", "plain", argument]
        do {
            _ = try SidecarCommand.parseAsRoot(arguments)
            Issue.record("accepted")
        } catch {
            let line = Redaction.message(SidecarCommand.message(for: error), about: arguments)
            #expect(!line.contains("hunter2") && line.contains("number 3") && line.contains("'plain'"), "\(line)")
            #expect(isOneLine(line))
        }
    }

    @Test("So are options' values, and nothing else is changed") func values() {
        #expect(
            Redaction.message("The value 'u:x@h' is invalid for '-o <output>'", about: ["lease", "--output=u:x@h"])
                == "The value number 2 is invalid for '-o <output>'")
        #expect(Redaction.message("a = 'b'\nc '='", about: ["="]) == "a = 'b' c '='")
        #expect(
            Redaction.message("2 unexpected arguments: 'a@b', 'xa@b'", about: ["a@b", "xa@b"])
                == "2 unexpected arguments: number 1, number 2")
    }

    @Test("A log line is one line of bounded length", arguments: [LogFormat.text, .json])
    func logLines(format: LogFormat) {
        let nasty = "a\u{1B}[2J\u{9B}b\r\nc\u{2028}d\u{85}\u{7F}"
        let line = SinkLogHandler.line(format, level: .info, nasty, details: [("node", nasty)])
        #expect(isOneLine(line), "\(line.debugDescription)")
        #expect(line.contains("a[2Jb c d") && line.contains("\\u009b"))
        let long = SinkLogHandler.line(format, level: .info, String(repeating: "x", count: 1_200_000), details: [])
        #expect(long.utf8.count < 4200)
    }

    @Test("A row of a table is one line") func rows() {
        let name = "n\n1\u{1B}[2J\u{9B}\r\u{2028}x"
        #expect(TextTable.render([["NODE", "ROLE"], [name, "leader"]]) == "NODE      ROLE\nn 1[2J x  leader")
        #expect(TextTable.render([[String(repeating: "x", count: 1_000_000), "y"]]).utf8.count < 1100)
        #expect(JSONObject([("node", .text(name))]).text == #"{"node": "n\n1\u001b[2J\u009b\r\u2028x"}"#)
    }
}
