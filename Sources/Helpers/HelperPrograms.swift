// All helper programs that run at the moment, each on a thread of its own. The lease loop starts and cancels them
// without waiting; at the end of the sidecar none is left behind.

import Clock
import Glibc
import Synchronization
import Text

/// Runs helper programs beside the loop.
///
/// Why a thread for each: it alone waits for its program (HelperProcess), nothing that hangs holds up another, and it
/// is not needed for longer than the program.
package final class HelperPrograms: Sendable {
    private struct Running {
        var cancellations: [UInt64: HelperCancellation] = [:]
        var next: UInt64 = 0
        /// No more are started.
        var isEnding = false
    }

    private let running = Mutex(Running())
    private let most: Int

    /// `most`: how many may run at once. Programs that cannot be killed, such as those whose file system does not
    /// answer, count until they are gone: so whoever starts one again and again does not fill the machine.
    package init(most: Int = 64) { self.most = most }

    /// Starts a program and returns at once. `whenDone` is called once: from the program's own thread, or before this
    /// returns if there is no room for the program.
    @discardableResult
    package func start(
        _ program: HelperProgram, whenDone: @escaping @Sendable (HelperResult) -> Void
    ) -> HelperCancellation {
        let cancellation = HelperCancellation()
        guard let number = admit(cancellation) else {
            // Too many, or the sidecar ends.
            cancellation.cancel()
            whenDone(HelperResult(isEnding ? .cancelled : .notStarted(errno: EAGAIN)))
            return cancellation
        }
        do {
            try Threads.start("sidecar-helper") { [self] in
                defer { forget(number) }
                do throws(HelperProcess.SpawnError) {
                    var run = try HelperRun(program, cancellation)
                    whenDone(run.result())
                    run.reap()
                } catch {
                    whenDone(HelperResult(.notStarted(errno: error.number)))
                }
            }
        } catch {
            forget(number)
            whenDone(HelperResult(.notStarted(errno: EAGAIN)))
        }
        return cancellation
    }

    /// Runs a program and waits for its end. Not for the loop's thread.
    package func run(_ program: HelperProgram) -> HelperResult {
        let answer = Answer()
        start(program) { answer.give($0) }
        return answer.wait()
    }

    /// How many run.
    package var count: Int { running.withLock { $0.cancellations.count } }

    /// Kills all that run and starts no more. Waits a moment for them to be gone.
    package func end(waitingMilliseconds: Int32) {
        let all = running.withLock { running in
            running.isEnding = true
            return Array(running.cancellations.values)
        }
        for cancellation in all { cancellation.cancel() }
        for _ in 0..<max(1, waitingMilliseconds / 5) {
            if count == 0 { return }
            poll(nil, 0, 5)
        }
    }

    private var isEnding: Bool { running.withLock { $0.isEnding } }

    private func admit(_ cancellation: HelperCancellation) -> UInt64? {
        running.withLock { running in
            guard !running.isEnding, running.cancellations.count < most else { return nil }
            running.next += 1
            running.cancellations[running.next] = cancellation
            return running.next
        }
    }

    private func forget(_ number: UInt64) {
        running.withLock { _ = $0.cancellations.removeValue(forKey: number) }
    }
}

/// A result that one thread waits for. Safe between the two: the result is behind a mutex, and each of them keeps the
/// descriptor open as long as it may use it.
private final class Answer: Sendable {
    private let result = Mutex<HelperResult?>(nil)
    private let flag = EventFlag.make()

    deinit { if flag >= 0 { close(flag) } }

    func give(_ new: HelperResult) {
        result.withLock { $0 = new }
        EventFlag.raise(flag)
    }

    func wait() -> HelperResult {
        while true {
            if let result = result.withLock({ $0 }) { return result }
            EventFlag.wait(flag)
        }
    }
}
