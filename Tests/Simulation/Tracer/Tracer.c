#define _GNU_SOURCE
#include "Tracer.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

int tracer_seize(pid_t guard) { return ptrace(PTRACE_SEIZE, guard, 0, PTRACE_O_TRACEFORK) == 0 ? 0 : -1; }

/* Whether it has stopped for its tracer; sets for what. Never takes its exit away from who waits for that. */
static int has_stopped(pid_t guard, int *event) {
    siginfo_t information = {0};
    if (waitid(P_PID, guard, &information, WSTOPPED | WNOHANG | __WALL) || information.si_pid != guard) return 0;
    *event = information.si_status >> 8;
    return 1;
}

static pid_t caught(pid_t guard, int event) {
    unsigned long child = 0;
    if (event != PTRACE_EVENT_FORK) return 0;
    ptrace(PTRACE_GETEVENTMSG, guard, 0, &child);
    waitpid((pid_t)child, 0, __WALL); /* its own stop, before its first instruction */
    return (pid_t)child;
}

pid_t tracer_caught(pid_t guard) {
    int event;
    if (!has_stopped(guard, &event)) return 0;
    pid_t child = caught(guard, event);
    if (child) ptrace(PTRACE_DETACH, guard, 0, 0);
    else ptrace(PTRACE_CONT, guard, 0, 0);
    return child;
}

pid_t tracer_let_go(pid_t guard) {
    int event;
    ptrace(PTRACE_INTERRUPT, guard, 0, 0);
    for (int tries = 0; tries < 5000; tries++) {
        if (has_stopped(guard, &event)) {
            pid_t child = caught(guard, event);
            ptrace(PTRACE_DETACH, guard, 0, 0);
            return child;
        }
        nanosleep(&(struct timespec){0, 200000}, 0);
    }
    return 0;
}

void tracer_release(pid_t child) { ptrace(PTRACE_DETACH, child, 0, 0); }

int tracer_is_dead(pid_t child) {
    siginfo_t information = {0};
    if (waitid(P_PID, child, &information, WEXITED | WNOHANG | __WALL)) return 1;
    return information.si_pid == child && information.si_code != CLD_TRAPPED && information.si_code != CLD_STOPPED;
}
