/*
 * A command in one of the shapes that process trees take, well-behaved or not. Prints "shape ready" once it has that shape.
 * Endless forking comes in two kinds: chains, whose population stays the same while every member forks and exits, and a bomb,
 * which grows up to a limit. Both count their forks in a file that the test can read, so that it can tell that they were
 * still forking when they were killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* More forks than any test should see: what is left then only waits to be killed. */
#define LIMIT 200000
#define BOMB_LIMIT 4000

static _Atomic long *forks;
static int in_crowd;

static void ready(void) {
    if (write(1, "shape ready\n", 12) != 12) _exit(3);
}

static void hang(void) {
    /* In a crowd: not longer than whoever made it. */
    if (in_crowd) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;) pause();
}

static void ignore_all(void) {
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
}

/* A child that runs `what`, in a session of its own if asked for. */
static pid_t child(int own_session, void (*what)(void)) {
    pid_t pid = fork();
    if (pid) return pid;
    if (own_session) setsid();
    what();
    _exit(0);
}

/* The classic daemon: forked twice, so that it is nobody's child, in its own session. */
static void daemonize(void (*what)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            what();
            _exit(0);
        }
        _exit(0);
    }
    waitpid(pid, 0, 0);
}

/* Takes the kernel long to end: tens of thousands of mappings have to be torn down. */
static void slow_to_die(void) {
    for (int i = 0; i < 60000; i++) {
        int protection = i % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
        char *page = mmap(0, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) break;
        if (protection & PROT_WRITE) *page = 1;
    }
    in_crowd = 0;
    ready();
    hang();
}

static void stop(void) {
    raise(SIGSTOP);
    hang();
}

static void stubborn(void) {
    ignore_all();
    hang();
}

/*
 * Forks its own successor and exits, for ever; unless it has escaped its guard and fallen to init: then the test has
 * failed, and must not take the machine with it, since an init may reap more slowly than this forks.
 */
static void chain(int own_session) {
    while (getppid() != 1 && atomic_fetch_add(forks, 1) < LIMIT) {
        pid_t pid = fork();
        if (pid > 0) _exit(0);
        if (pid == 0 && own_session) setsid();
    }
    hang();
}
static void chain_in_group(void) { chain(0); }
static void chain_of_sessions(void) { chain(1); }

/* Every member keeps forking. */
static void bomb(int own_session) {
    for (;;) {
        if (atomic_load(forks) >= BOMB_LIMIT) hang();
        atomic_fetch_add(forks, 1);
        if (fork() == 0 && own_session) setsid();
    }
}

static void nested_subreaper(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    daemonize(hang);
    daemonize(stubborn);
    hang();
}

/* As ssh-agent does: /proc, mounted with hidepid, then hides it from its own user. */
static void secretive(void) {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    hang();
}

static void parent_of_secretive(void) {
    child(0, secretive);
    child(1, secretive);
    hang();
}

/* How much of a process can be had by another one of the same user. */
static int steal_from(int pid) {
    char path[64], bytes[16];
    int found = 0;
    const char *files[] = {"environ", "mem", "maps"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        int file = open(path, O_RDONLY);
        if (file >= 0 && (i == 1 || read(file, bytes, sizeof bytes) > 0)) found++;
        if (file >= 0) close(file);
    }
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int number = 0; number < 64; number++) {
        int file = (int)syscall(SYS_pidfd_getfd, process, number, 0);
        if (file < 0) continue;
        found++;
        close(file);
    }
    if (process >= 0) close(process);
    return found;
}

static int parent_of(int pid) {
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int file = open(path, O_RDONLY), parent = 0;
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) > 0 && strrchr(text, ')')) sscanf(strrchr(text, ')') + 1, " %*c %d", &parent);
    close(file);
    return parent;
}

static void *run_for_ever(void *unused) {
    (void)unused;
    ready();
    hang();
    return 0;
}

int main(int argc, char **argv) {
    const char *shape = argc > 1 ? argv[1] : "";
    if (argc > 2) {
        int file = open(argv[2], O_RDWR | O_CREAT, 0600);
        if (file < 0 || ftruncate(file, sizeof *forks)) return 3;
        forks = mmap(0, sizeof *forks, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (forks == MAP_FAILED) return 3;
    }
    if (!strcmp(shape, "plain")) {
        child(0, hang);
    } else if (!strcmp(shape, "deep")) {
        for (int depth = 0; depth < 50; depth++)
            if (fork()) hang();
    } else if (!strcmp(shape, "stubborn")) {
        ignore_all();
        child(0, hang);
        child(1, hang);
    } else if (!strcmp(shape, "sessions")) {
        for (int i = 0; i < 5; i++) child(1, hang);
    } else if (!strcmp(shape, "daemon")) {
        daemonize(stubborn);
    } else if (!strcmp(shape, "daemon-left")) {
        daemonize(stubborn);
        ready();
        return 42;
    } else if (!strcmp(shape, "stopped")) {
        pid_t pid = child(1, stop);
        waitpid(pid, 0, WUNTRACED);
    } else if (!strcmp(shape, "vfork")) {
        ready();
        if (vfork() == 0) hang();
    } else if (!strcmp(shape, "subreaper")) {
        child(1, nested_subreaper);
    } else if (!strcmp(shape, "headless")) {
        pthread_t thread;
        pthread_create(&thread, 0, run_for_ever, 0);
        pthread_exit(0);
    } else if (!strcmp(shape, "secretive")) {
        /* argv[3]: a setuid program that takes a number of seconds. */
        if (argc > 3)
            for (int i = 0; i < 2; i++)
                if (fork() == 0) {
                    if (i) setsid();
                    execl(argv[3], "helper", "1000", (char *)0);
                    _exit(127);
                }
        child(0, secretive);
        child(0, parent_of_secretive);
        daemonize(secretive);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    } else if (!strcmp(shape, "wide")) {
        /* More than one slice of a sweep. */
        for (int left = 1500; left > 0; left--)
            if (child(left % 3 == 0, hang) < 0) return 4;
    } else if (!strcmp(shape, "crowd")) {
        /* argv[3] processes that do nothing, for the tests of what their number must not matter to. */
        in_crowd = 1;
        for (int left = argc > 3 ? atoi(argv[3]) : 0; left > 0; left--)
            if (child(0, hang) < 0) return 4;
    } else if (!strcmp(shape, "thief")) {
        int guard = getppid(), keeper = parent_of(guard);
        printf("stolen from guard %d, from keeper %d, from a sibling %d\n", steal_from(guard), steal_from(keeper),
               steal_from(child(0, hang)));
        fflush(stdout);
    } else if (!strcmp(shape, "groups")) {
        for (int i = 0; i < 5; i++)
            if (fork() == 0) {
                setpgid(0, 0);
                child(0, hang);
                hang();
            }
    } else if (!strcmp(shape, "chains")) {
        for (int i = 0; i < 8; i++) child(0, chain_in_group);
    } else if (!strcmp(shape, "session-chains")) {
        for (int i = 0; i < 8; i++) child(1, chain_of_sessions);
    } else if (!strcmp(shape, "bomb") || !strcmp(shape, "session-bomb")) {
        ready();
        bomb(shape[0] == 's');
    } else if (!strcmp(shape, "exit")) {
        return argc > 3 ? atoi(argv[3]) : 7;
    } else if (!strcmp(shape, "exit-on-term") || !strcmp(shape, "slow-left")) {
        sigset_t set;
        int number;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, 0);
        if (shape[0] == 's') daemonize(slow_to_die);
        else ready();
        sigwait(&set, &number);
        return 9;
    } else {
        return 2;
    }
    in_crowd = 0;
    ready();
    hang();
}
