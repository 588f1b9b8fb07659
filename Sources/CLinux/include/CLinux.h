/*
 * The few Linux calls that Swift cannot make itself: variadic calls, macros, and headers that its Glibc module leaves
 * out. Each function is one system call; errors come back as -1 with errno set. No logic.
 */
#ifndef CLINUX_H
#define CLINUX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The argument vector the kernel gave this process, in its own memory (writing to it changes what ps shows). */
char **clinux_argv(void);
int clinux_argc(void);

/* The environment (environ(7)) in this process's own memory. */
char **clinux_environment(void);

/* fork(2): only while there is one thread */
static inline pid_t clinux_fork(void) { return fork(); }

/* prctl(2) */
static inline int clinux_set_child_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
static inline int clinux_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
static inline int clinux_set_dumpable(int dumpable) { return prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0); }
static inline int clinux_set_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

/* signalfd(2): non-blocking, close-on-exec */
static inline int clinux_signalfd(const sigset_t *mask) { return signalfd(-1, mask, SFD_NONBLOCK | SFD_CLOEXEC); }
/* read(2) of one signalfd_siginfo: the signal's number, or -1 */
static inline int clinux_signalfd_read(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : -1;
}

/* timerfd_create(2), timerfd_settime(2): CLOCK_BOOTTIME, absolute; 0 disarms */
static inline int clinux_boottime_timer(void) { return timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC); }
static inline int clinux_boottime_timer_set(int fd, int64_t nanoseconds) {
    struct itimerspec when = {{0, 0}, {nanoseconds / 1000000000, nanoseconds % 1000000000}};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, 0);
}

/* clock_gettime(2) of CLOCK_BOOTTIME in nanoseconds */
static inline int64_t clinux_boottime_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* pidfd_open(2), pidfd_send_signal(2) */
static inline int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
static inline int clinux_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, 0, 0);
}

/* getdents64(2) */
static inline long clinux_getdents(int fd, void *buffer, unsigned int size) {
    return syscall(SYS_getdents64, fd, buffer, size);
}

/* open(2): two and three arguments */
static inline int clinux_open(const char *path, int flags) { return open(path, flags | O_CLOEXEC); }
static inline int clinux_create(const char *path, int flags, mode_t mode) {
    return open(path, flags | O_CREAT | O_CLOEXEC, mode);
}

/* pipe2(2), eventfd(2), fcntl(2), close_range(2) */
static inline int clinux_pipe(int ends[2], int flags) { return pipe2(ends, flags | O_CLOEXEC); }
static inline int clinux_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
static inline int clinux_set_nonblocking(int fd) { return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }
static inline int clinux_close_from(int first) { return (int)syscall(SYS_close_range, first, ~0U, 0); }
static inline int clinux_close_range(unsigned int first, unsigned int last) {
    return (int)syscall(SYS_close_range, first, last, 0);
}
static inline int clinux_close_on_exec_from(int first) {
    return (int)syscall(SYS_close_range, first, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
}

/* openat(2): read-only */
static inline int clinux_open_at(int directory, const char *path) {
    return openat(directory, path, O_RDONLY | O_CLOEXEC);
}

/* wait4(2): any child of the calling thread (__WNOTHREAD) that has ended, whatever its exit signal (__WALL); does not
 * block. A child belongs to the thread that started it, an orphan that falls to this process to its main thread. */
static inline pid_t clinux_reap(int *status) { return waitpid(-1, status, WNOHANG | __WALL | __WNOTHREAD); }
/* waitid(2): how this child of the calling thread has ended, without reaping it (si_signo 0: not yet); does not block */
static inline int clinux_look_at_child(pid_t pid, siginfo_t *information) {
    information->si_signo = 0;
    return waitid(P_PID, (id_t)pid, information, WEXITED | WNOHANG | WNOWAIT | __WALL | __WNOTHREAD);
}
static inline int clinux_child_exited(const siginfo_t *information) { return information->si_code == CLD_EXITED; }
static inline int clinux_child_status(const siginfo_t *information) { return information->si_status; }
/* wait4(2): this child of the calling thread; blocks until it ends */
static inline pid_t clinux_await_child(pid_t pid, int *status) { return waitpid(pid, status, __WALL | __WNOTHREAD); }

/* rt_sigaction(2): the default disposition. Not through glibc, which refuses the two signals it keeps for itself. In
 * every architecture's layout all zeros mean SIG_DFL, no flags, no mask. */
static inline int clinux_default_signal(int number) {
    unsigned long action[16] = {0};
    return (int)syscall(SYS_rt_sigaction, number, action, 0, 8 /* sizeof the kernel's sigset_t */);
}

/* sigaction(2): whether a signal is ignored */
static inline int clinux_ignores_signal(int number) {
    struct sigaction action;
    return sigaction(number, 0, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* getpriority(2), setpriority(2): this process; getpriority's -1 may be a value, so errno is cleared first */
int clinux_get_priority(void);
int clinux_set_priority(int nice);

/* snprintf(3): one number in decimal */
int clinux_print_number(char *buffer, int size, int number);

/* execvpe(3) */
static inline int clinux_execvpe(const char *file, char *const argv[], char *const envp[]) {
    extern int execvpe(const char *, char *const[], char *const[]);
    return execvpe(file, argv, envp);
}

/* wait(2): the macros over a wait status */
static inline int clinux_exited(int status) { return WIFEXITED(status); }
static inline int clinux_exit_status(int status) { return WEXITSTATUS(status); }
static inline int clinux_signaled(int status) { return WIFSIGNALED(status); }
static inline int clinux_term_signal(int status) { return WTERMSIG(status); }

#endif
