/* Keeps the argument vector that glibc hands to every constructor: Swift only offers a copy. */
#include "CLinux.h"

static char **saved_argv;
static int saved_argc;

__attribute__((constructor)) static void save_arguments(int argc, char **argv) {
    saved_argc = argc;
    saved_argv = argv;
}

char **clinux_argv(void) { return saved_argv; }
int clinux_argc(void) { return saved_argc; }
