// Threads for tests that block. Swift's pool has one thread a core; a scenario that waits for processes on one of them
// would hold up every other test, and be held up by them just when it is about to inject a fault.

import Foundation
import Synchronization

private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void

    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
        self.name = name
        self.run = run
    }
}

/// Starts a thread. Not Foundation's, which says nothing when there is no room for one: who waits for it would wait for ever.
public func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let body = Unmanaged.passRetained(Body(name, body))
    var thread = pthread_t()
    let error = patiently {
        pthread_create(
            &thread, nil,
            { pointer in
                guard let pointer else { return nil }
                let body = Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue()
                Thread.current.name = body.name
                body.run()
                return nil
            }, body.toOpaque())
    }
    precondition(error == 0, "no thread \(name) can be started: \(String(cString: strerror(error)))")
    pthread_detach(thread)
}

/// Runs `body`, which may block, on a thread of its own. It stays part of the caller's task, so that `#expect` knows
/// which test it belongs to.
public func onOwnThread<Result: Sendable>(_ body: @Sendable () throws -> Result) async throws -> Result {
    let executor = ThreadExecutor()
    defer { executor.end() }
    return try await withTaskExecutorPreference(executor) { try await hopped(body) }
}

/// Nonisolated and asynchronous, so that it runs where the task's preference says.
@concurrent private func hopped<Result: Sendable>(_ body: @Sendable () throws -> Result) async throws -> Result {
    try body()
}

/// An executor with one thread.
private final class ThreadExecutor: TaskExecutor {
    private struct Queue {
        var jobs: [UnownedJob] = []
        var ended = false
    }
    private let queue = Mutex(Queue())
    private let ready = DispatchSemaphore(value: 0)

    init() {
        startThread("test") { [self] in
            while true {
                ready.wait()
                let next = queue.withLock { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
                if let next {
                    next.runSynchronously(on: asUnownedTaskExecutor())
                } else if queue.withLock({ $0.ended }) {
                    return
                }
            }
        }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.withLock { $0.jobs.append(job) }
        ready.signal()
    }

    func end() {
        queue.withLock { $0.ended = true }
        ready.signal()
    }
}
