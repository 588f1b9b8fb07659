/*
 * So many processes that do nothing: they are there, and whoever looks through /proc has to look at each of them.
 *
 *   crowd COUNT
 *
 * Prints a line with the pid of each, then "ready N" (fewer than COUNT where the machine has no room for more). They end
 * with it: at SIGTERM it ends them and reaps them first; killed, the kernel ends them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { lifetime_s = 120, stack_bytes = 4096 };

static pid_t crowd_pid;

static int idle(void *unused) {
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != crowd_pid) _exit(0);
    for (;;) pause();
}

int main(int count, char **words) {
    int wanted = count == 2 ? atoi(words[1]) : 0;
    pid_t *crowd = wanted > 0 ? calloc((size_t)wanted, sizeof *crowd) : NULL;
    char *stacks = wanted > 0 ? malloc((size_t)wanted * stack_bytes) : NULL;
    if (!crowd || !stacks) {
        dprintf(2, "usage: crowd COUNT\n");
        return 98;
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGALRM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    alarm(lifetime_s);
    crowd_pid = getpid();
    int number = 0;
    /* In one memory, or the kernel would spend seconds, and a gigabyte, on ten thousand copies of it. */
    int shared = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND;
    for (; number < wanted; number++) {
        crowd[number] = clone(idle, stacks + (size_t)(number + 1) * stack_bytes, shared | SIGCHLD, NULL);
        if (crowd[number] < 0) break;
    }
    for (int index = 0; index < number; index++) printf("%d\n", (int)crowd[index]);
    printf("ready %d\n", number);
    fflush(stdout);
    int signal;
    sigwait(&ends, &signal);
    for (int index = 0; index < number; index++) kill(crowd[index], SIGKILL);
    while (wait(NULL) > 0) {}
    return 0;
}
