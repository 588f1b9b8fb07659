// Which signals the keeper takes: some ask it to stop, some are meant for the child, and SIGCHLD tells of a dead guard.
// All are blocked and read from a signalfd, so that nothing interrupts the loop, and so that they reach a PID 1, too.
//
// Two things about the start decide about some of them. What nohup(1) or a shell's `&` had set to be ignored stays
// ignored: it is not blocked, so the kernel drops it. And with a controlling terminal SIGHUP says that the terminal is
// gone: stop. Without one, as in a container or a service, it is a request to the command, such as to read its
// configuration again.

import CLinux
import Glibc

/// The keeper's signals as a descriptor.
package struct KeeperSignals {
    /// What a start may have set to be ignored, and means for the command as well (ChildStart.swift in Guard).
    static let mayStayIgnored: [Int32] = [SIGHUP, SIGINT, SIGQUIT]
    /// All that would end or stop the keeper, or that programs give a meaning to; real-time signals included.
    static let forwarded: [Int32] =
        [
            SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGURG, SIGTSTP,
            SIGTTIN,
            SIGTTOU,
        ] + Array(34...64)

    /// Those that ask the keeper to stop.
    let stopping: [Int32]
    /// For poll(2): readable when a signal waits.
    let descriptor: Int32

    /// Blocks them in this thread and all it will start. Call before any thread exists.
    package init?() {
        stopping = [SIGTERM, SIGINT] + (Self.hasTerminal() ? [SIGHUP] : [])
        var set = sigset_t()
        sigemptyset(&set)
        for number in stopping + Self.forwarded + [SIGCHLD] { sigaddset(&set, number) }
        for number in Self.mayStayIgnored where clinux_ignores_signal(number) != 0 { sigdelset(&set, number) }
        guard pthread_sigmask(SIG_BLOCK, &set, nil) == 0 else { return nil }
        descriptor = clinux_signalfd(&set)
        guard descriptor >= 0 else { return nil }
    }

    /// Whether this process has a controlling terminal (tty(4)).
    private static func hasTerminal() -> Bool {
        let terminal = clinux_open("/dev/tty", O_RDONLY | O_NONBLOCK | O_NOCTTY)
        guard terminal >= 0 else { return false }
        close(terminal)
        return true
    }

    /// The next one that waits, or nil.
    func next() -> Int32? {
        let number = clinux_signalfd_read(descriptor)
        return number > 0 ? number : nil
    }
}
