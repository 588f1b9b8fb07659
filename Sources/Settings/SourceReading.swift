// Reads the source of the database's settings again, on a thread of its own: a file may lie on a mount that hangs,
// and a command may take long. The caller waits for a descriptor, with a time limit.

import CLinux
import Clock
import Glibc
import Helpers
import Postgres
import Synchronization
import Text

/// One reading under way.
///
/// Safe between the two threads: the answer is behind a mutex, and the thread's strong reference keeps the descriptor
/// open.
package final class SourceReading: Sendable {
    package typealias Answer = Result<ConnectionSettings, Failure>

    /// Readable once the answer is there.
    package let descriptor: Int32
    private let result = Mutex<Answer?>(nil)

    /// Starts to read.
    /// - Throws: `Failure` 71 if the system has no thread or descriptor left.
    init(_ read: @escaping @Sendable () -> Answer) throws {
        descriptor = EventFlag.make()
        guard descriptor >= 0 else {
            throw Failure(
                code: Failure.operatingSystem, message: "no file descriptor left to read the database's settings")
        }
        try Threads.start("sidecar-source") { [self] in
            let answer = read()
            result.withLock { $0 = answer }
            EventFlag.raise(descriptor)
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// The answer, once there is one.
    package var answer: Answer? { result.withLock { $0 } }

    /// Waits for the answer; nil after `limit`.
    func wait(limit: Duration) -> Answer? {
        let deadline = BootClock.now() + limit
        while true {
            if let answer { return answer }
            let left = deadline.since(BootClock.now())
            guard left > .zero else { return nil }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, Int32(clamping: left.milliseconds + 1))
        }
    }
}
