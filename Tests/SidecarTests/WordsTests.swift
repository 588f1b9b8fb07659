// What is shown of texts that were not written here: commands, arguments, log messages, cells of tables.

import Testing
import Text

@testable import Sidecar

@Suite("What is shown of others' texts") struct WordsTests {
    private func isOneLine(_ text: String) -> Bool { !text.unicodeScalars.contains { $0.breaksLine } }

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

    @Test("A command that is not there is told from one that may not be executed") func executables() {
        #expect(Executable.problem("true", path: "/usr/bin:/bin") == nil)
        #expect(Executable.problem("no-such-command", path: "/usr/bin:/bin")?.code == 127)
        #expect(Executable.problem("/etc/passwd", path: nil)?.code == 126)
        #expect(Executable.problem("/etc", path: nil)?.code == 126)
        #expect(Executable.problem("passwd", path: "/etc")?.code == 126)
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

    @Test("A row of a table is one line") func rows() {
        let name = "n\n1\u{1B}[2J\u{9B}\r\u{2028}x"
        #expect(TextTable.render([["NODE", "ROLE"], [name, "leader"]]) == "NODE      ROLE\nn 1[2J x  leader")
        #expect(TextTable.render([[String(repeating: "x", count: 1_000_000), "y"]]).utf8.count < 1100)
        #expect(JSONObject([("node", .text(name))]).text == #"{"node": "n\n1\u001b[2J\u009b\r\u2028x"}"#)
    }
}
