/* The seccomp filter of everything the agent runs, and the descriptors on which its notifications arrive. */
#ifndef FILTER_H
#define FILTER_H

#define TRACE_FD 300 /* where our bash writes its trace (set -x), apart from its complaints; it is never open */
/* Puts the calling process under the filter for good; returns the listener, or -1. */
int filter_install(void);

/* One for each shell that was started and has left processes behind, the oldest first. */
#define MAX_LISTENERS 64
extern int listeners[MAX_LISTENERS];
extern int listener_count;
/* Listens there, too; forgets the oldest if they are too many. */
void listeners_add(int listener);
void listeners_remove(int index);
#endif
