// Runs the command of a `..._CMD` setting while the keeper's loop runs. That loop reaps every process that ends below
// the keeper, so no other code there can wait for a command. So a copy of this program runs the command, kills what
// exceeds its time limit, and hands over one answer. The copy needs no database and no guard.

import CLinux
import Clock
import Glibc
import Helpers
import Text

/// A copy of this program that runs one command and prints its result.
package enum CredentialsHelper {
    /// The copy's first argument. It is internal, so there is no help for it.
    static let word = "_database-command"

    /// How much longer than the command the copy may take.
    private static let slack = Duration.seconds(5)

    /// In the keeper, on a thread that may block: what the command in that variable prints.
    static func output(ofCommandIn variable: String, limit: Duration) -> Result<String, Subprocess.Problem> {
        let copy = ["sidecar", word, variable, "\(limit.milliseconds)"]
        switch Subprocess.outputOfCopy(copy, limit: limit + slack) {
        case .failure(let problem): return .failure(problem)
        case .success(let bytes):
            guard let text = String(validating: bytes.dropFirst(), as: UTF8.self) else {
                return .failure(Subprocess.Problem(reason: "printed what is not UTF-8"))
            }
            switch bytes.first {
            case UInt8(ascii: "+"): return .success(text)
            case UInt8(ascii: "-"): return .failure(Subprocess.Problem(reason: text))
            default: return .failure(Subprocess.Problem(reason: "could not be run"))
            }
        }
    }

    /// The copy's whole life; nil when the arguments ask for something else.
    package static func main(_ arguments: [String]) -> Int32? {
        guard arguments.count == 3, arguments[0] == word, let milliseconds = Int64(arguments[2]) else { return nil }
        // If the keeper is gone, or cannot wait any longer, no process wants the answer.
        _ = clinux_set_parent_death_signal(SIGKILL)
        let limit = Duration.milliseconds(milliseconds)
        alarm(UInt32(clamping: (limit + slack * 2).components.seconds))
        let result: Result<String, Subprocess.Problem>
        if arguments[1].hasPrefix("AIRFLOW__"), arguments[1].hasSuffix("_CMD"),
            let words = Environment.current[arguments[1]].flatMap(ShellWords.split), !words.isEmpty
        {
            result = Subprocess.output(of: words, limit: limit)
        } else {
            result = .failure(Subprocess.Problem(reason: "is not a command line"))
        }
        switch result {
        case .success(let text): return Console.write("+" + text, to: STDOUT_FILENO) ? 0 : 74
        case .failure(let problem): return Console.write("-" + problem.reason, to: STDOUT_FILENO) ? 1 : 74
        }
    }
}
