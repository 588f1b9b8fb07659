// Plain threads and the flags that wake them: for the few jobs beside the lease loop that may block (writing logs and
// files) or must not depend on it (the watchdog). Not the cooperative pool, which one blocked job could starve.

import CLinux
import Glibc
import Text

/// Detached POSIX threads.
package enum Threads {
    private final class Body {
        let name: String
        let run: () -> Void

        init(name: String, run: @escaping () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// What a fault of the thread's own raises: blocked, it would end the process without a word.
    private static let faults = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP]

    /// Starts a thread that nobody joins. `name` is cut at 15 bytes (prctl(2), PR_SET_NAME). It takes no signals: they
    /// are the main thread's, also where that begins to block them later.
    /// - Throws: `Failure` 71 where the system gives no thread: without its watchdog or log the keeper must not run.
    package static func start(_ name: String, _ run: @escaping @Sendable () -> Void) throws {
        let body = Unmanaged.passRetained(Body(name: name, run: run))
        var thread = pthread_t()
        var blocked = sigset_t()
        var before = sigset_t()
        sigfillset(&blocked)
        for number in faults { sigdelset(&blocked, number) }
        pthread_sigmask(SIG_BLOCK, &blocked, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let failed = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                _ = clinux_set_name(body.name)
                body.run()
                return nil
            }, body.toOpaque())
        guard failed == 0 else {
            body.release()
            throw Failure(code: Failure.operatingSystem, message: "cannot start a thread: \(errorText(failed))")
        }
        pthread_detach(thread)
    }
}

/// An eventfd as a flag that one thread waits for.
package enum EventFlag {
    package static func make() -> Int32 { clinux_eventfd() }

    package static func raise(_ flag: Int32) {
        var one: UInt64 = 1
        _ = write(flag, &one, 8)
    }

    /// Waits until it is raised, and lowers it.
    package static func wait(_ flag: Int32) {
        var entry = pollfd(fd: flag, events: Int16(POLLIN), revents: 0)
        poll(&entry, 1, flag >= 0 ? -1 : 1000)
        var count: UInt64 = 0
        _ = read(flag, &count, 8)
    }
}
