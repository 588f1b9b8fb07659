// Which signals the keeper takes: two ask it to stop, some are meant for the child, and SIGCHLD tells of a dead guard.
// All are blocked and read from a signalfd, so that nothing interrupts the loop, and so that they reach a PID 1, too.

import CLinux
import Glibc

/// The keeper's signals as a descriptor.
struct KeeperSignals {
    static let stopping: [Int32] = [SIGTERM, SIGINT]
    /// All that would end or stop the keeper, or that programs give a meaning to; real-time signals included.
    static let forwarded: [Int32] =
        [
            SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGURG, SIGTSTP,
            SIGTTIN,
            SIGTTOU,
        ] + Array(34...64)

    /// For poll(2): readable when a signal waits.
    let descriptor: Int32

    /// Blocks them in this thread and all it will start. Call before any thread exists.
    init?() {
        var set = sigset_t()
        sigemptyset(&set)
        for number in Self.stopping + Self.forwarded + [SIGCHLD] { sigaddset(&set, number) }
        guard pthread_sigmask(SIG_BLOCK, &set, nil) == 0 else { return nil }
        descriptor = clinux_signalfd(&set)
        guard descriptor >= 0 else { return nil }
    }

    /// The next one that waits, or nil.
    func next() -> Int32? {
        let number = clinux_signalfd_read(descriptor)
        return number > 0 ? number : nil
    }
}
