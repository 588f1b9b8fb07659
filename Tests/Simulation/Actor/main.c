/*
 * The command that compare-guard has real guards start. It does what its environment says, so that the model can know it:
 * leaves a process behind, ends by itself, takes a SIGTERM this way or that. Once all is prepared it says on standard output
 * when it began, by CLOCK_BOOTTIME.
 *
 *   ACTOR_START=N             which start it is
 *   ACTOR_LEAVES=KIND         child: a process of its own; daemon: one that is detached, and ignores every signal
 *   ACTOR_ENDS="MS KIND N"    after that time it exits with code N, or dies by signal N: KIND is code or signal
 *   ACTOR_TERM="MS CODE"      at SIGTERM it exits with that code, that much later; -1: never
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* What is left behind carries its name from its first moment on. */
static void leave(int detached) {
    prctl(PR_SET_NAME, "left");
    pid_t pid = fork();
    if (pid == 0) {
        if (detached) {
            setsid();
            if (fork()) _exit(0);
            for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
        }
        for (;;) pause();
    }
    if (detached) waitpid(pid, 0, 0);
    prctl(PR_SET_NAME, "actor");
}

int main(void) {
    long long began = now();
    const char *leaves = getenv("ACTOR_LEAVES"), *ends = getenv("ACTOR_ENDS"), *term = getenv("ACTOR_TERM");
    prctl(PR_SET_NAME, "actor");

    sigset_t terminate;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    int term_after = 0, term_code = 0;
    if (leaves) leave(!strcmp(leaves, "daemon"));
    if (term && sscanf(term, "%d %d", &term_after, &term_code) == 2) sigprocmask(SIG_BLOCK, &terminate, 0);

    long long end = 0;
    int end_after = 0, end_number = 0;
    char kind[16] = "";
    if (ends && sscanf(ends, "%d %15s %d", &end_after, kind, &end_number) == 3) end = began + end_after * 1000000LL;

    char line[64];
    int length = snprintf(line, sizeof line, "%s %lld\n", getenv("ACTOR_START"), began);
    if (write(1, line, length) != length) return 3;

    for (;;) {
        long long rest = end ? end - now() : 3600LL * 1000000000;
        if (end && rest <= 0) {
            if (!strcmp(kind, "code")) _exit(end_number);
            sigprocmask(SIG_UNBLOCK, &terminate, 0);
            raise(end_number);
        }
        struct timespec wait = {rest / 1000000000, rest % 1000000000};
        if (!term) {
            nanosleep(&wait, 0);
        } else if (sigtimedwait(&terminate, 0, &wait) == SIGTERM && term_after >= 0) {
            long long asked = now() + term_after * 1000000LL;
            if (!end || asked < end) {
                end = asked;
                end_number = term_code;
                strcpy(kind, "code");
            }
            term_after = -1;
        }
    }
}
