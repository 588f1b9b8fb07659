/*
 * Holds a guard and the child that it has just forked, as a frozen container would, and lets the child go first. It tells
 * on standard output what the child then does: only its own look at the clock keeps it from its exec.
 *
 *   StartHolder GUARD MILLISECONDS     holder ready; holder held PID; holder exec | holder exited CODE
 *   StartHolder                        ends with 0 where one process may trace another
 *
 * Or holds a guard for good: it neither answers nor can it die, not even of SIGKILL, until this program ends.
 *
 *   StartHolder hold GUARD             holder ready
 *   StartHolder hold GUARD dead        the same, but it can die; only, its parent cannot reap it
 *
 * Or becomes a command whose timers cannot be set: timerfd_settime(2) fails with that errno, or with 0 only says that it was
 * done.
 *
 *   StartHolder timerless ERRNO COMMAND [ARG ...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC;

static int try_out(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int may = ptrace(PTRACE_SEIZE, pid, 0, options) == 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, __WALL);
    return may ? 0 : 1;
}

/* Lets it run until it stops for that event, or ends. */
static int run_until(pid_t pid, int event) {
    int status;
    for (;;) {
        if (waitpid(pid, &status, __WALL) != pid) return -1;
        if (!WIFSTOPPED(status) || status >> 16 == event) return status;
        int number = status >> 16 ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_CONT, pid, 0, number);
    }
}

static int hold(pid_t guard, int until_reaped) {
    /* With this option a process that was SIGKILLed stops once more on its way out. Without, it becomes a zombie that only its
     * tracer could reap. */
    long option = until_reaped ? 0 : PTRACE_O_TRACEEXIT;
    if (ptrace(PTRACE_SEIZE, guard, 0, option) != 0 || ptrace(PTRACE_INTERRUPT, guard, 0, 0) != 0) {
        printf("holder cannot trace: %s\n", strerror(errno));
        return 1;
    }
    /* For its stop only. Its end, should it be killed first, is not to be taken: that would bury it. */
    siginfo_t stopped;
    waitid(P_PID, guard, &stopped, WSTOPPED | __WALL);
    printf("holder ready\n");
    for (;;) pause();
}

static int become_timerless(int error, char **command) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_timerfd_settime, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 1;
    execvp(command[0], command);
    return 127;
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 3) return try_out();
    if (!strcmp(words[1], "hold")) {
        alarm(120);
        return hold(atoi(words[2]), count > 3);
    }
    if (!strcmp(words[1], "timerless") && count > 3) return become_timerless(atoi(words[2]), words + 3);
    pid_t guard = atoi(words[1]);
    alarm(60);
    if (ptrace(PTRACE_SEIZE, guard, 0, options) != 0) {
        printf("holder cannot trace: %s\n", strerror(errno));
        return 1;
    }
    printf("holder ready\n");
    run_until(guard, PTRACE_EVENT_FORK);
    unsigned long message = 0;
    ptrace(PTRACE_GETEVENTMSG, guard, 0, &message);
    pid_t child = (pid_t)message;
    waitpid(child, NULL, __WALL); /* its own stop, before its first instruction */
    printf("holder held %d\n", (int)child);

    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    long long end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + atoll(words[2]);
    struct timespec until = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL) == EINTR) {}

    ptrace(PTRACE_CONT, child, 0, 0);
    int status = run_until(child, PTRACE_EVENT_EXEC);
    if (WIFSTOPPED(status)) {
        printf("holder exec\n");
        ptrace(PTRACE_DETACH, child, 0, 0);
    } else {
        printf("holder exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    ptrace(PTRACE_DETACH, guard, 0, 0);
    return 0;
}
