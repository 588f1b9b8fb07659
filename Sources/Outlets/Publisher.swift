// Writes the readiness files from a thread of its own: a hanging disk must not stop the lease loop. It only ever writes
// the newest state; a state that is never written makes the file stale, which is what a reader should see then.

import Glibc
import Helpers
import Synchronization
import Text

/// The thread that keeps the readiness files.
package final class Publisher: Sendable {
    /// One picture to publish.
    package struct Picture: Equatable {
        package var ready: ReadyState?
        /// Nil: the loop turns, but the sidecar is beyond hope.
        package var live: ReadyState?

        package init(ready: ReadyState?, live: ReadyState?) {
            self.ready = ready
            self.live = live
        }
    }

    private enum Order {
        case idle
        case write(Picture)
        case remove
        case removed
    }

    private let order = Mutex(Order.idle)
    private let wakeUp: Int32
    private let file: ReadyFile
    /// Held for as long as the files are written.
    private let lock: ReadyFileLock
    private let onError: @Sendable (String) -> Void

    /// `onError` gets one line when a file cannot be written, once until it can be again.
    package init(file: ReadyFile, lock: ReadyFileLock, onError: @escaping @Sendable (String) -> Void) throws {
        self.file = file
        self.lock = lock
        self.onError = onError
        wakeUp = EventFlag.make()
        try Threads.start("sidecar-ready") { [self] in writeForever() }
    }

    package func publish(_ picture: Picture) {
        order.withLock { if case .removed = $0 {} else { $0 = .write(picture) } }
        EventFlag.raise(wakeUp)
    }

    /// Removes both files and writes no more; waits a moment for it to be done.
    package func remove(waitingMilliseconds: Int32) {
        order.withLock { $0 = .remove }
        EventFlag.raise(wakeUp)
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if order.withLock({ if case .removed = $0 { true } else { false } }) { return }
            poll(nil, 0, 5)
        }
    }

    private func writeForever() -> Never {
        var complained: String?
        var ready = false
        while true {
            EventFlag.wait(wakeUp)
            let next = order.withLock { order in
                let next = order
                if case .write = order { order = .idle }
                return next
            }
            switch next {
            case .idle, .removed: break
            case .write(let picture):
                let problem = write(picture, wasReady: &ready)
                if let problem, problem != complained { onError(problem) }
                complained = problem
            case .remove:
                // What is another sidecar's by now is not ours to remove.
                if (try? lock.keep()) != nil {
                    file.remove()
                    file.live.remove()
                }
                lock.release()
                order.withLock { $0 = .removed }
            }
        }
    }

    /// - Returns: why it could not be written.
    private func write(_ picture: Picture, wasReady: inout Bool) -> String? {
        do {
            try lock.keep()
        } catch {
            return "\((error as? Failure)?.message ?? "\(error)"); this sidecar no longer writes it"
        }
        var problem: Int32 = 0
        if let live = picture.live { problem = file.live.write(live) } else { file.live.remove() }
        if let state = picture.ready {
            problem = max(problem, file.write(state))
            wasReady = true
        } else if wasReady || problem == 0 {
            file.remove()
            wasReady = false
        }
        guard problem != 0 else { return nil }
        return
            "cannot write the readiness file \(file.path): \(errorText(problem)); probes fail until it can be written"
    }
}
