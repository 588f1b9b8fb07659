// `sidecar probe`: answers from the readiness file alone, in milliseconds, without a database. For exec probes.

import ArgumentParser
import Clock
import Outlets
import Settings
import Text

/// What can be asked.
enum Probe: String, CaseIterable, ExpressibleByArgument {
    /// As `--ready-when` said.
    case ready
    /// It leads and its child runs.
    case leader
    /// Its loop turns.
    case live

    /// Exit code 0 for yes. 1 for no, with the reason on stderr, which people read in an event.
    func answer(
        file: ReadyFile, now: Instant = BootClock.now(), bootID: String = ReadyFile.bootID(),
        timeNamespace: UInt64? = ReadyFile.timeNamespace()
    ) -> Int32 {
        guard let reason = reason(file: file, now: now, bootID: bootID, timeNamespace: timeNamespace) else { return 0 }
        Console.error("no: \(reason)")
        return 1
    }

    /// Why the answer is no; nil for yes.
    func reason(
        file: ReadyFile, now: Instant = BootClock.now(), bootID: String = ReadyFile.bootID(),
        timeNamespace: UInt64? = ReadyFile.timeNamespace()
    ) -> String? {
        let asked = self == .live ? file.live : file
        let reason: String?
        switch asked.read() {
        case .absent: reason = "does not exist or cannot be read"
        case .untrusted(let owner):
            reason =
                "belongs to user \(owner), whom this probe does not trust: run the probe as that user, or put --ready-file into a folder that belongs to the sidecar's user"
        case .state(let state): reason = objection(state, now: now, bootID: bootID, timeNamespace: timeNamespace)
        }
        guard let reason else { return nil }
        let trouble = self == .live ? nil : trouble(file.live.read(), now: now, bootID: bootID, timeNamespace)
        return "the readiness file \(asked.path) \(reason)" + (trouble.map { ": \($0)" } ?? "")
    }

    /// The trouble that a live sidecar reports about itself.
    private func trouble(
        _ live: ReadyFile.Reading, now: Instant, bootID: String, _ timeNamespace: UInt64?
    ) -> String? {
        guard case .state(let live) = live,
            objection(live, now: now, bootID: bootID, timeNamespace: timeNamespace) == nil
        else { return nil }
        return live.trouble.map { oneLine($0, longest: 1000) }
    }

    private func objection(
        _ state: ReadyState, now: Instant, bootID: String, timeNamespace: UInt64?
    ) -> String? {
        guard state.bootID == bootID else { return "was written before the last boot" }
        // The clock of another time namespace is shifted: a file that expired long ago could look fresh.
        guard state.timeNamespace == nil || state.timeNamespace == timeNamespace else {
            return "was written in another time namespace: run the probe in the sidecar's"
        }
        guard state.deadline > now.nanoseconds else {
            return "expired \(Durations.text(now.since(Instant(nanoseconds: state.deadline)))) ago"
        }
        return self == .leader && state.role != "leader" ? "says \(state.role), not leader" : nil
    }

    /// Answers the plain forms without the option parser; nil for all others.
    static func fastPath(_ arguments: [String]) -> Int32? {
        guard let first = arguments.first, let probe = Probe(rawValue: first) else { return nil }
        let row = SettingsTable.shared.readyFile.row
        switch arguments.count {
        case 1: return probe.answer(file: .forReading(Environment.current[row.variable]))
        case 3 where arguments[1] == row.option: return probe.answer(file: .forReading(arguments[2]))
        default: return nil
        }
    }
}

struct ProbeCommand: ExitingCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe", abstract: "Answer an exec probe from the readiness file: exit code 0 for yes, 1 for no.")

    @Argument(
        help:
            "ready: as --ready-when says; leader: the sidecar leads and its command runs; live: the sidecar does not hang."
    )
    var question: Probe

    @OptionGroup var options: SettingOptions<ForProbe>

    func execute() throws -> Int32 {
        question.answer(file: .forReading(try options.reader().value(\.readyFile)))
    }
}
