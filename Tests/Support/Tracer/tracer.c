/*
 * Holds a process as a debugger does whose user is busy elsewhere (a suspended `strace -p`, a `gdb -p` at its prompt):
 * attaches to it, stops it, and then does nothing at all, until it is killed itself. The kernel then lets the process go.
 *
 *   tracer PID strace     asks for a stop at the exit, as strace does: a SIGKILL does not end the process while it is held,
 *                         and its children get no death signal
 *   tracer PID gdb        asks for none: a SIGKILL ends it, but its parent does not learn of that while it is held
 *   tracer                ends with 0 where one process may trace another that is not its child
 *
 * Prints "held" once the process is stopped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { lifetime_s = 120 };

static int seize(pid_t pid, long options) { return ptrace(PTRACE_SEIZE, pid, 0, options) == 0 ? 0 : -1; }

/* A sibling, since Yama (kernel.yama.ptrace_scope) lets a process trace its own children and nobody else's. */
static int try_out(void) {
    pid_t traced = fork();
    if (traced == 0) {
        pause();
        _exit(0);
    }
    pid_t tracer = fork();
    if (tracer == 0) _exit(seize(traced, PTRACE_O_TRACEEXIT) == 0 ? 0 : 1);
    int status = 0;
    waitpid(tracer, &status, 0);
    kill(traced, SIGKILL);
    waitpid(traced, NULL, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int count, char **words) {
    if (count == 1) return try_out();
    pid_t pid = count == 3 ? atoi(words[1]) : 0;
    int asks_for_exit = count == 3 && strcmp(words[2], "strace") == 0;
    if (pid <= 0 || (!asks_for_exit && strcmp(words[2], "gdb") != 0)) {
        dprintf(2, "usage: tracer [PID strace|gdb]\n");
        return 98;
    }
    alarm(lifetime_s);
    if (seize(pid, asks_for_exit ? PTRACE_O_TRACEEXIT : 0) != 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0) {
        dprintf(2, "tracer: %d: %s\n", (int)pid, strerror(errno));
        return 1;
    }
    /* Only looks at stops: to collect an exit would be to let go of it. */
    siginfo_t stop;
    if (waitid(P_PID, (id_t)pid, &stop, WSTOPPED | __WALL) != 0) return 1;
    dprintf(1, "held\n");
    for (;;) pause();
}
