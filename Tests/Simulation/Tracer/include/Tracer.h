/*
 * Holds the child of a guard between fork and exec, as a busy machine might: ptrace(2), which Swift cannot call. The caller is
 * the tracer, and has one thread.
 */
#ifndef TRACER_H
#define TRACER_H

#include <sys/types.h>

/* From now on the guard's next child is held. 0, or -1 with errno where one process may not trace another. */
int tracer_seize(pid_t guard);

/* The child that has been caught, which is held now, while the guard goes on untraced; 0 if there is none yet. */
pid_t tracer_caught(pid_t guard);

/* No child is to be held any more. The one that was caught at the last moment, as above, or 0. */
pid_t tracer_let_go(pid_t guard);

/* The child goes on. */
void tracer_release(pid_t child);

/* Whether the held child was killed; its parent can reap it only after this was asked. */
int tracer_is_dead(pid_t child);

#endif
