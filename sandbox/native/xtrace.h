/* Bash's own trace (set -x): which simple commands the shell runs, and with what status the last one ended. */
#ifndef XTRACE_H
#define XTRACE_H
#include <stddef.h>

#include "threads.h"

/* A write of n bytes of `peeked` to TRACE_FD by our shell: "\036\036X<status>:<depth>:<words>\n" or the rest of one
 * that was too long for one write; another text after the agent has changed PS4. It goes to the host, and to the
 * terminal only if the agent itself asked for a trace. */
void xtrace_write(struct thread *t, size_t n);
#endif
