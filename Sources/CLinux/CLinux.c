/* What cannot be said in the header: the argument vector that glibc hands to every constructor (Swift only offers a copy),
 * and calls whose header would clash with Swift's Glibc module. */
#include "CLinux.h"

#include <stdio.h>
#include <sys/resource.h>

static char **saved_argv;
static int saved_argc;

__attribute__((constructor)) static void save_arguments(int argc, char **argv) {
    saved_argc = argc;
    saved_argv = argv;
}

char **clinux_argv(void) { return saved_argv; }
int clinux_argc(void) { return saved_argc; }

extern char **environ;
char **clinux_environment(void) { return environ; }

int clinux_get_priority(void) { return errno = 0, getpriority(PRIO_PROCESS, 0); }
int clinux_print_number(char *buffer, int size, int number) { return snprintf(buffer, size, "%d", number); }
int clinux_set_priority(int nice) { return setpriority(PRIO_PROCESS, 0, nice); }
