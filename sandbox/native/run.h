/* A command from its request to its end, and the shells that come and go meanwhile. */
#ifndef RUN_H
#define RUN_H
#include <stdbool.h>
#include <stdint.h>

#include "frames.h"

/* Starts the supervisor's first shell. */
void run_first_shell(void);
/* A command runs, or a shell is about to start: no request is served. */
bool run_busy(void);
/* Answers a request R or, if `verify`, V: begins a command. */
void run_command(struct reader *request, bool verify);
/* The agent is over: nothing of it may touch what follows. A shell of the image's own starts. */
void run_clean_slate(void);
/* Whether the shell has ended its command, or its own start; if `patient`, waits a moment for it to get there. */
void run_check_shell(bool patient);
/* The shell is dead: so is its command, and another starts. */
void run_shell_exited(uint32_t code);
/* What time brings: limits, input, a shell that does not start. To be called again and again. */
void run_watch(void);
#endif
