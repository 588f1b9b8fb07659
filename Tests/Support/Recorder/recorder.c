/*
 * The child that the end-to-end tests run under sidecar: a main process and one process for each awkward shape a real
 * scheduler's tree can have. Each appends its signs of life to a file of its own, in CLOCK_BOOTTIME nanoseconds, one
 * write(2) a line, so that whatever kills it loses nothing. Whoever reads the files knows who was alive when.
 *
 *   recorder LOGDIR [--members plain,stubborn,setsid,daemon,stopped,hopping,storm]
 *                   [--exit-after MS] [--exit-code N] [--ignore-term] [--busy-while FILE]
 *
 * --busy-while: as long as FILE exists the tree has as many more processes as the number in it says. They take all the
 * processor time that they can get, every second of them in a session of its own.
 *
 * Files: LOGDIR/<SIDECAR_EPOCH>-<SIDECAR_INSTANCE>-<shape>-<pid>.log, shape "main" for the main process. Lines:
 *   env KEY=VALUE      what the process was told: SIDECAR_LEASE, SIDECAR_NODE, PGAPPNAME
 *   main PID           the tree it belongs to: the main process's pid, in the pid namespace of the tree
 *   start NS           first sign of life
 *   alive NS           every 10 ms
 *   signal NUMBER NS   a signal that the main process caught (HUP, USR1, USR2, WINCH; TERM with --ignore-term)
 *   intruder NS WHO    a process of another tree was alive at that moment (see claim_lock)
 *   stop NS            orderly exit
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { tick_ms = 10, lifetime_s = 300, forking_lifetime_s = 30, busy_limit = 256 };

static const char *directory;
static int log_file = -1;
static int lock_file = -1;
static int lock_is_ours;
static pid_t main_pid;
static const char *busy_file;
static pid_t busy[busy_limit];
static int busy_count;

static volatile sig_atomic_t stop_wanted;
static volatile sig_atomic_t caught[65];

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : "none";
}

static void die(const char *what) {
    dprintf(2, "recorder: %s: %s\n", what, strerror(errno));
    _exit(97);
}

/* One write(2) a line: dprintf may split, and a line torn by SIGKILL is no sign of anything. */
static void put(const char *line, int length) {
    if (write(log_file, line, (size_t)length) != length) die("write");
}

static void say(const char *word) {
    char line[64];
    put(line, snprintf(line, sizeof line, "%s %lld\n", word, (long long)now()));
}

static void say_environment(const char *name) {
    char line[512];
    int length = snprintf(line, sizeof line, "env %s=%s\n", name, environment(name));
    put(line, length < (int)sizeof line ? length : (int)sizeof line - 1);
}

static void open_log(const char *shape) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s-%s-%s-%d.log", directory, environment("SIDECAR_EPOCH"),
             environment("SIDECAR_INSTANCE"), shape, (int)getpid());
    if (log_file >= 0) close(log_file);
    log_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_file < 0) die(path);
    char line[64];
    put(line, snprintf(line, sizeof line, "main %d\n", (int)main_pid));
    say("start");
    say_environment("SIDECAR_LEASE");
    say_environment("SIDECAR_NODE");
    say_environment("PGAPPNAME");
}

/*
 * The kernel's own word on "never two", which the 10 ms of the log cannot give and which even a stopped process
 * cannot hide from: one flock(2) on one open file, inherited by the whole tree, is free only when the last process of
 * the tree is dead. Not getting it at once means that another tree is still alive. Works across pid namespaces.
 */
static void claim_lock(void) {
    if (lock_file < 0) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tree.lock", directory);
        lock_file = open(path, O_RDWR | O_CREAT, 0644);
        if (lock_file < 0) die(path);
    }
    /* One write of one length: a tree that is killed, or kept from the processor, between two would be nameless. */
    enum { name_length = 200 };
    char who[name_length + 1] = "";
    if (flock(lock_file, LOCK_EX | LOCK_NB) == 0) {
        int length = snprintf(who, sizeof who, "%s-%s-%d", environment("SIDECAR_EPOCH"),
                              environment("SIDECAR_INSTANCE"), (int)main_pid);
        if (length >= name_length) die("tree.lock");
        memset(who + length, ' ', (size_t)(name_length - length));
        if (pwrite(lock_file, who, name_length, 0) != name_length) die("tree.lock");
        lock_is_ours = 1;
        return;
    }
    if (pread(lock_file, who, name_length, 0) <= 0) strcpy(who, "?");
    who[strcspn(who, " ")] = 0;
    char line[512];
    put(line, snprintf(line, sizeof line, "intruder %lld %s\n", (long long)now(), who));
}

static void on_stop(int number) {
    (void)number;
    stop_wanted = 1;
}
static void on_other(int number) { caught[number]++; }

static void handle(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(number, &action, NULL);
}

static void tell_caught(void) {
    for (int number = 1; number < 65; number++) {
        while (caught[number] > 0) {
            caught[number]--;
            char line[64];
            put(line, snprintf(line, sizeof line, "signal %d %lld\n", number, (long long)now()));
        }
    }
}

static void pause_until(int64_t time) {
    struct timespec when = {.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};
    clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &when, NULL);
}

/* Never sleeps, and stops for nothing but SIGKILL and SIGTERM. */
static void be_busy(int own_session) {
    signal(SIGTERM, SIG_DFL);
    alarm(forking_lifetime_s);
    if (own_session) setsid();
    open_log("busy");
    for (;;) {
        for (int64_t end = now() + tick_ms * 1000000LL; now() < end;) {}
        say("alive");
    }
}

/* Starts and ends what --busy-while asks for. */
static void tend_busy(void) {
    char text[16] = "";
    int file = open(busy_file, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0) die(busy_file);
        close(file);
    }
    for (int wanted = atoi(text); busy_count < wanted && busy_count < busy_limit; busy_count++) {
        pid_t pid = fork();
        if (pid < 0) return;
        if (pid == 0) be_busy(busy_count % 2);
        busy[busy_count] = pid;
    }
    if (file >= 0) return;
    for (int index = 0; index < busy_count; index++) kill(busy[index], SIGKILL);
    while (busy_count > 0) waitpid(busy[--busy_count], NULL, 0);
}

/* Signs of life until told to stop, or until `end`; then the orderly last word. */
static void live(int64_t end) {
    while (!stop_wanted && now() < end) {
        pause_until(now() + tick_ms * 1000000LL);
        tell_caught();
        if (getpid() == main_pid && !lock_is_ours) claim_lock();
        if (getpid() == main_pid && busy_file) tend_busy();
        say("alive");
    }
    tell_caught();
    say("stop");
}

/* A process that is never the same pid for long: a kill by a list of pids misses it. */
static void hop(void) {
    /* alarm(2) ends with the process that set it. */
    for (int64_t end = now() + lifetime_s * 1000000000LL; now() < end;) {
        for (int tick = 0; tick < 5; tick++) {
            pause_until(now() + tick_ms * 1000000LL);
            say("alive");
        }
        pid_t next = fork();
        if (next > 0) _exit(0);
        if (next < 0) say("alive");
    }
}

/*
 * Processes that fork while the table of processes is being read: who kills what one reading shows and does not look again
 * leaves some alive. No faster than that takes, or their corpses would fill the machine's table.
 */
static void storm(void) {
    enum { width = 4, tick_of_storm_ms = 5 };
    for (int index = 1; index < width; index++)
        if (fork() == 0) break;
    for (int64_t end = now() + forking_lifetime_s * 1000000000LL; now() < end;) {
        pause_until(now() + tick_of_storm_ms * 1000000LL);
        say("alive");
        if (fork() > 0) _exit(0);
        setsid(); /* or one kill(2) of the group would have them all */
    }
}

static void become(const char *shape) {
    alarm(lifetime_s);
    if (strcmp(shape, "plain") == 0) {
        open_log(shape);
        live(INT64_MAX);
    } else if (strcmp(shape, "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        open_log(shape);
        live(INT64_MAX);
    } else if (strcmp(shape, "setsid") == 0) {
        if (setsid() < 0) die("setsid");
        open_log(shape);
        live(INT64_MAX);
    } else if (strcmp(shape, "daemon") == 0) {
        if (setsid() < 0) die("setsid");
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        if (fork() != 0) _exit(0);
        alarm(lifetime_s);
        open_log(shape);
        live(INT64_MAX);
    } else if (strcmp(shape, "stopped") == 0) {
        open_log(shape);
        kill(getpid(), SIGSTOP);
        live(INT64_MAX);
    } else if (strcmp(shape, "hopping") == 0) {
        signal(SIGCHLD, SIG_IGN);
        open_log(shape);
        hop();
    } else if (strcmp(shape, "storm") == 0) {
        signal(SIGCHLD, SIG_IGN);
        open_log(shape);
        storm();
    } else {
        errno = EINVAL;
        die(shape);
    }
    _exit(0);
}

int main(int count, char **words) {
    char *members = NULL;
    int64_t exit_after_ms = -1;
    int exit_code = 0;
    int ignore_term = 0;
    for (int index = 1; index < count; index++) {
        char *value = index + 1 < count ? words[index + 1] : NULL;
        if (strcmp(words[index], "--ignore-term") == 0) {
            ignore_term = 1;
        } else if (value && strcmp(words[index], "--members") == 0) {
            members = words[++index];
        } else if (value && strcmp(words[index], "--busy-while") == 0) {
            busy_file = words[++index];
        } else if (value && strcmp(words[index], "--exit-after") == 0) {
            exit_after_ms = atoll(words[++index]);
        } else if (value && strcmp(words[index], "--exit-code") == 0) {
            exit_code = atoi(words[++index]);
        } else if (!directory && words[index][0] != '-') {
            directory = words[index];
        } else {
            dprintf(2, "recorder: unknown or incomplete option %s\n", words[index]);
            return 98;
        }
    }
    if (!directory) {
        dprintf(2,
                "usage: recorder LOGDIR [--members SHAPES] [--exit-after MS] [--exit-code N] [--ignore-term] "
                "[--busy-while FILE]\n");
        return 98;
    }

    main_pid = getpid();
    alarm(lifetime_s);
    handle(SIGTERM, ignore_term ? on_other : on_stop);
    handle(SIGINT, ignore_term ? on_other : on_stop);
    int forwarded[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
    for (size_t index = 0; index < sizeof forwarded / sizeof *forwarded; index++) handle(forwarded[index], on_other);
    open_log("main");
    claim_lock();
    int64_t end = exit_after_ms < 0 ? INT64_MAX : now() + exit_after_ms * 1000000;

    for (char *shape = members ? strtok(members, ",") : NULL; shape; shape = strtok(NULL, ",")) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (pid == 0) {
            for (size_t index = 0; index < sizeof forwarded / sizeof *forwarded; index++)
                signal(forwarded[index], SIG_DFL);
            handle(SIGTERM, on_stop);
            handle(SIGINT, on_stop);
            become(shape);
        }
    }
    live(end);
    return exit_code;
}
