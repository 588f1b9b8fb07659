// The program's entry. `run` forks its guard first, while the process has one thread and no open files. `probe` is
// answered without the option parser, because probes run every few seconds.

import ArgumentParser
import CLinux
import Glibc
import Guard

/// Whether the arguments ask for `run`. Looks at memory only: nothing may happen before the fork.
func asksToRun() -> Bool {
    guard clinux_argc() > 1, let arguments = clinux_argv(), let word = arguments[1] else { return false }
    return strcmp(word, "run") == 0
}

let guardProcess = asksToRun() ? GuardProcess.fork() : nil
let guardError = errno

// From here on this is the keeper, or a command that needs no guard.
signal(SIGPIPE, SIG_IGN)
// A log or readiness file that reaches the limit of file sizes (ulimit -f) is an error to report, not the end of the
// keeper.
signal(SIGXFSZ, SIG_IGN)
exit(Program.main(guardProcess: guardProcess, guardError: guardError))
