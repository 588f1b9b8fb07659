// Writes the readiness files from a thread of its own: a hanging disk must not stop the lease loop. It only ever writes
// the newest state; a state that is never written makes the file stale, which is what a reader should see then.

import Clock
import Glibc
import Lease
import Synchronization

/// The thread that keeps the readiness files.
final class Publisher: Sendable {
    /// One picture to publish.
    struct Picture: Equatable {
        var ready: ReadyState?
        /// Nil: the loop turns, but the sidecar is beyond hope.
        var live: ReadyState?
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
    private let onError: @Sendable (String) -> Void

    /// `onError` gets one line when a file cannot be written, once until it can be again.
    init(file: ReadyFile, onError: @escaping @Sendable (String) -> Void) throws {
        self.file = file
        self.onError = onError
        wakeUp = EventFlag.make()
        try Threads.start("sidecar-ready") { [self] in writeForever() }
    }

    func publish(_ picture: Picture) {
        order.withLock { if case .removed = $0 {} else { $0 = .write(picture) } }
        EventFlag.raise(wakeUp)
    }

    /// Removes both files and writes no more; waits a moment for it to be done.
    func remove(waitingMilliseconds: Int32) {
        order.withLock { $0 = .remove }
        EventFlag.raise(wakeUp)
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if order.withLock({ if case .removed = $0 { true } else { false } }) { return }
            poll(nil, 0, 5)
        }
    }

    private func writeForever() -> Never {
        var complained = false
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
                var problem: Int32 = 0
                if let live = picture.live { problem = file.live.write(live) } else { file.live.remove() }
                if let state = picture.ready {
                    problem = max(problem, file.write(state))
                    ready = true
                } else if ready || problem == 0 {
                    file.remove()
                    ready = false
                }
                if problem != 0, !complained {
                    onError("cannot write the readiness file \(file.path): \(errorText(problem)); probes will say no")
                }
                complained = problem != 0
            case .remove:
                file.remove()
                file.live.remove()
                order.withLock { $0 = .removed }
            }
        }
    }
}
