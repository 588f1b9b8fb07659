// Variables that nobody reads: which are reported, and in which words.

import Testing

@testable import Settings

@Suite("Unknown variables") struct UnknownVariablesTests {
    private func warnings(_ variables: [String: String]) -> [String] {
        UnknownVariables.warnings(Environment(variables))
    }

    @Test("A slip in a name is one warning with the name that was meant, without the value") func suggestion() {
        #expect(
            warnings(["SIDECAR_TLL": "60s", "SIDECAR_LEASE": "beat", "PATH": "/bin"])
                == ["the variable SIDECAR_TLL is unknown and has no effect; did you mean SIDECAR_TTL?"])
    }

    @Test(
        "Slips of every kind find their name",
        arguments: [
            ("DATABASE_ULR", "DATABASE_URL"), ("DATABSE_URL_FILE", "DATABASE_URL_FILE"), ("MARGN", "MARGIN"),
            ("LOGLEVEL", "LOG_LEVEL"), ("READYFILE", "READY_FILE"), ("ready_WHEN", nil), ("NODES", "NODE"),
            ("CHILD_OOM_SCORE", "CHILD_OOM_SCORE_ADJ"), ("GRACE_PERIOD", "GRACE"), ("LEASE_NAME", "LEASE"),
            ("RESTART_WINDOWS", "RESTART_WINDOW"), ("TL", "TTL"), ("TABLE", nil),
            ("STATUS_PORT", nil), ("", nil), (String(repeating: "TTL", count: 50), nil),
        ])
    func slips(name: String, meant: String?) throws {
        let line = try #require(warnings(["SIDECAR_\(name)": "postgresql://u:hunter2@h/d"]).first)
        #expect(line.contains("did you mean") == (meant != nil), "\(line)")
        if let meant { #expect(line.hasSuffix("did you mean SIDECAR_\(meant)?"), "\(line)") }
        #expect(!line.contains("hunter2") && line.utf8.count < 250)
    }

    @Test("Every variable of the table is known, and so is what a child is given") func known() {
        var variables = Dictionary(uniqueKeysWithValues: SettingsTable.rows.map { ($0.variable, "x") })
        for name in ["EPOCH", "INSTANCE", "LEASE", "NODE"] { variables["SIDECAR_\(name)"] = "x" }
        #expect(warnings(variables) == [])
    }

    @Test("What Kubernetes makes for Services is no reason for a warning", arguments: ["SIDECAR", "SIDECAR_STATUS_2"])
    func services(name: String) {
        var variables = [
            "SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "5432", "SERVICE_PORT_HTTP": "80",
            "PORT": "tcp://10.0.0.1:5432", "PORT_5432_TCP": "tcp://10.0.0.1:5432",
        ]
        for proto in ["TCP", "UDP", "SCTP"] {
            for part in ["", "_PROTO", "_PORT", "_ADDR"] { variables["PORT_5432_\(proto)\(part)"] = "x" }
        }
        #expect(warnings(Dictionary(uniqueKeysWithValues: variables.map { ("\(name)_\($0)", $1) })) == [])
        // Written by somebody, none of these is made for a Service.
        #expect(warnings(["\(name)_PORT": "5432", "\(name)_PORT_X_TCP": "1", "\(name)_HOST": "h"]).count == 3)
    }

    @Test("An empty variable counts as not set") func empty() { #expect(warnings(["SIDECAR_TLL": ""]) == []) }

    @Test("A name that may hold a password, or a terminal's commands, is not repeated") func names() {
        for name in ["SIDECAR_postgresql://u:hunter2@h/d", "SIDECAR_\u{1B}[2J hunter2"] {
            let lines = warnings([name: "x"])
            #expect(lines.count == 1 && !lines.contains { $0.contains("hunter2") || $0.contains("\u{1B}") })
        }
    }
}
