// A helper program, what it may use up, and how it ended: commands that print credentials, health checks, event hooks.
// No word about an end quotes the output, which may be a password.

import Clock
import Text

/// A program to be run beside the lease loop (`HelperPrograms`).
///
/// It is the first process of a process group of its own. Its standard input is empty, and it inherits no other
/// descriptor. When it has ended, is over a limit, or is cancelled, whatever is still in its group is killed. Only what
/// it has put into another session or group, as daemons do, lives on.
package struct HelperProgram: Sendable {
    /// Where its standard error goes.
    package enum Errors: Sendable {
        /// To this process's own.
        case passedOn
        /// To the output.
        case collected
    }

    /// Its name, looked for in PATH where it has no slash, and its arguments.
    package var words: [String]
    /// Its environment, as NAME=value; nil for this process's own.
    package var environment: [String]?
    /// How long it may take until it has ended and its output is closed.
    package var timeLimit: Duration
    /// How many bytes it may print.
    package var outputLimit: Int
    package var errors: Errors

    package init(
        _ words: [String], environment: [String]? = nil, timeLimit: Duration, outputLimit: Int = 1 << 20,
        errors: Errors = .passedOn
    ) {
        self.words = words
        self.environment = environment
        self.timeLimit = timeLimit
        self.outputLimit = outputLimit
        self.errors = errors
    }
}

/// What came of running a helper program.
package struct HelperResult: Equatable, Sendable {
    package enum End: Equatable, Sendable {
        case exited(code: Int32)
        case killed(signal: Int32)
        /// It, or somebody who had its output, was still there at its time limit.
        case tookTooLong(limit: Duration)
        case printedTooMuch(limit: Int)
        case cancelled
        /// With errno.
        case notStarted(errno: Int32)
        /// It has ended, and how was not told: with errno.
        case lost(errno: Int32)
    }

    package var end: End
    /// What it printed, up to its limit.
    package var output: [UInt8]

    package init(_ end: End, output: [UInt8] = []) {
        self.end = end
        self.output = output
    }

    /// Why the program failed, in words that can follow its name; nil for exit code 0.
    package var problem: String? {
        switch end {
        case .exited(code: 0): nil
        case .exited(let code): "ended with code \(code)"
        case .killed(let signal): "was killed by signal \(signal)"
        case .tookTooLong(let limit): "did not end within \(Durations.text(limit))"
        case .printedTooMuch(let limit): "printed more than \(limit) bytes"
        case .cancelled: "was cancelled"
        case .notStarted(let errno): "cannot be executed: \(errorText(errno))"
        case .lost(let errno): "ended, and the system does not say how: \(errorText(errno))"
        }
    }
}
