// Where log lines go: a bounded queue and a thread that writes to stderr. The lease loop must not wait for whoever
// reads the other end of the pipe, so a full queue drops lines and says how many.

import Glibc
import Helpers
import Synchronization
import Text

/// A queue of lines and its writer.
package final class LogSink: Sendable {
    private struct Queue {
        var lines: [String] = []
        var dropped = 0
        var writing = false
    }

    private static let capacity = 2000

    private let queue = Mutex(Queue())
    private let wakeUp: Int32

    /// Starts the writer.
    package init() throws {
        wakeUp = EventFlag.make()
        try Threads.start("sidecar-log") { [self] in writeForever() }
    }

    /// Never blocks longer than it takes to append.
    package func append(_ line: String) {
        queue.withLock { queue in
            if queue.lines.count < Self.capacity { queue.lines.append(line) } else { queue.dropped += 1 }
        }
        EventFlag.raise(wakeUp)
    }

    /// Gives the writer a moment to finish; for the end of the process.
    package func flush(milliseconds: Int32) {
        for _ in 0..<max(1, milliseconds / 5) {
            if queue.withLock({ $0.lines.isEmpty && !$0.writing }) { return }
            poll(nil, 0, 5)
        }
    }

    private func writeForever() -> Never {
        while true {
            let lines = queue.withLock { queue in
                var lines = queue.lines
                if queue.dropped > 0 {
                    lines.append(
                        "sidecar: dropped \(queue.dropped) log lines, because nothing reads stderr fast enough")
                }
                queue.lines = []
                queue.dropped = 0
                queue.writing = !lines.isEmpty
                return lines
            }
            if lines.isEmpty {
                EventFlag.wait(wakeUp)
            } else {
                Console.error(lines.joined(separator: "\n"))
            }
        }
    }
}
