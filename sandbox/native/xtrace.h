/* Bash's own trace (set -x): which simple commands the shell runs, and with what status the last one ended. */
#ifndef XTRACE_H
#define XTRACE_H
#include <stdbool.h>
#include <stddef.h>

#include "threads.h"

/* A write of n bytes of `peeked` to stderr by our shell: true if it was xtrace, "\036\036X<status>:<depth>:<words>\n"
 * or the rest of one that was too long for one write. That goes to the host, and to the terminal only if the agent
 * itself asked for a trace. */
bool xtrace_line(struct thread *t, size_t n);
#endif
