// Options, variables, defaults, contradictions: what `run` accepts and how it says no.

import Clock
import Testing
import Text

@testable import Settings

@Suite("Settings of run") struct SettingsTests {
    private static let database = ["SIDECAR_DATABASE_URL": "postgresql://u@h/d"]

    private func settings(_ variables: [String: String] = [:], options: [String: String] = [:]) throws -> RunSettings {
        let environment = Environment(variables.merging(Self.database) { $1 })
        return try RunSettings(SettingReader(options: options, environment: environment), command: ["true"])
    }

    @Test("The defaults are the documented ones") func defaults() throws {
        let settings = try settings()
        #expect(settings.identity.lease == "airflow-scheduler")
        #expect(settings.identity.node == hostName())
        #expect(settings.timing.ttl == .seconds(10))
        #expect(settings.machine.grace == .seconds(30))
        #expect(settings.machine.restarts.maxRestarts == 3)
        #expect(settings.machine.restarts.window == .seconds(300))
        #expect(settings.machine.restarts.cooldown == .seconds(60))
        #expect(settings.readyWhen == .healthy)
        #expect(!settings.machine.once && !settings.machine.killOnSessionLoss)
    }

    @Test("Every setting can come from its variable; the option wins") func variables() throws {
        let variables = [
            "SIDECAR_LEASE": "beat", "SIDECAR_NODE": "n1", "SIDECAR_TTL": "6s", "SIDECAR_RENEW_INTERVAL": "500ms",
            "SIDECAR_MARGIN": "2s", "SIDECAR_GRACE": "1m", "SIDECAR_READY_FILE": "/x/y", "SIDECAR_READY_WHEN": "leader",
            "SIDECAR_ON_SESSION_LOSS": "kill", "SIDECAR_ALLOW_SESSION_POOLER": "true", "SIDECAR_MAX_RESTARTS": "0",
            "SIDECAR_RESTART_WINDOW": "1h", "SIDECAR_COOLDOWN": "0s", "SIDECAR_ONCE": "yes",
        ]
        let settings = try settings(variables, options: ["ttl": "7s"])
        #expect(settings.identity.lease == "beat" && settings.identity.node == "n1")
        #expect(settings.timing.ttl == .seconds(7) && settings.timing.margin == .seconds(2))
        #expect(settings.timing.renewInterval == .milliseconds(500))
        #expect(settings.readyFile.path == "/x/y" && settings.readyWhen == .leader)
        #expect(settings.machine.killOnSessionLoss && settings.machine.once && settings.allowSessionPooler)
        #expect(settings.machine.restarts.maxRestarts == 0 && settings.machine.restarts.cooldown == .zero)
    }

    @Test(
        "Nonsense is refused with code 78 and names the setting",
        arguments: [
            ("SIDECAR_TTL", "10"), ("SIDECAR_TTL", "-1s"), ("SIDECAR_TTL", "1e3s"), ("SIDECAR_TTL", "100ms"),
            ("SIDECAR_TTL", "9999h"), ("SIDECAR_MARGIN", "9s"), ("SIDECAR_MARGIN", "1ms"),
            ("SIDECAR_RENEW_INTERVAL", "5s"), ("SIDECAR_GRACE", "soon"), ("SIDECAR_MAX_RESTARTS", "-1"),
            ("SIDECAR_READY_WHEN", "never"), ("SIDECAR_ON_SESSION_LOSS", "maybe"), ("SIDECAR_ONCE", "perhaps"),
            ("SIDECAR_LEASE", "has space"), ("SIDECAR_LEASE", "semi;colon"), ("SIDECAR_COOLDOWN", "99999999h"),
        ])
    func nonsense(variable: String, value: String) {
        #expect {
            try settings([variable: value])
        } throws: { error in
            guard let failure = error as? Failure else { return false }
            let option = "--" + variable.dropFirst("SIDECAR_".count).lowercased().replacing("_", with: "-")
            return failure.code == 78 && (failure.message.contains(variable) || failure.message.contains(option))
                && !failure.message.contains("\n")
        }
    }

    @Test(
        "A URL in the wrong slot is refused without its password",
        arguments: [
            "SIDECAR_TTL", "SIDECAR_GRACE", "SIDECAR_MAX_RESTARTS", "SIDECAR_READY_WHEN", "SIDECAR_ONCE",
            "SIDECAR_LOG_LEVEL",
            "SIDECAR_LOG_FORMAT", "SIDECAR_NODE", "SIDECAR_READY_FILE", "SIDECAR_LEASE", "SIDECAR_ON_SESSION_LOSS",
        ])
    func wrongSlot(variable: String) {
        #expect {
            try settings([variable: "postgresql://u:hunter2@h/d"])
        } throws: { error in
            guard let failure = error as? Failure else { return false }
            return failure.code == 78 && !failure.message.contains("hunter2")
        }
    }

    @Test("Durations that contradict each other are both named") func contradiction() {
        #expect {
            try settings(options: ["ttl": "10s", "renew-interval": "5s"])
        } throws: { error in
            let message = (error as? Failure)?.message ?? ""
            return message.contains("--renew-interval 5s") && message.contains("--ttl 10s")
        }
    }

    @Test(
        "Command lines split as a shell splits them",
        arguments: [
            ("a b  c", ["a", "b", "c"]), ("'a b' c", ["a b", "c"]), (#"a\ b"#, ["a b"]), (#""a \" b""#, [#"a " b"#]),
            ("''", [""]), ("a'b'c", ["abc"]), (#"'a\b'"#, [#"a\b"#]), (#""a\b""#, [#"a\b"#]), ("", []),
            ("'\u{301}a' b", ["\u{301}a", "b"]), ("a\r\nb", ["a", "b"]),
        ])
    func shellWords(line: String, words: [String]) { #expect(ShellWords.split(line) == words) }

    @Test("An open quote is no command line", arguments: ["'a", "\"a", "a\\"])
    func openQuotes(line: String) { #expect(ShellWords.split(line) == nil) }

    @Test("A refused value is quoted without what could lead a terminal astray") func quotedOnOneLine() {
        #expect {
            try settings(options: ["ttl": "1\u{1B}[2Jx\r\ny\u{2028}z\u{9B}"])
        } throws: { error in
            (error as? Failure)?.message.hasPrefix("--ttl '1[2Jxyz' is not a valid duration") == true
        }
    }
}
