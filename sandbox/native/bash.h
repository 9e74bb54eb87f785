/* Starts a bash: on the terminal, under the filter, without what the agent must not have. */
#ifndef BASH_H
#define BASH_H
#include <stdbool.h>
#include <sys/types.h>

/* Opens /bin/bash while it is still the image's own. */
void bash_keep_pristine(void);
/* Starts bash, or the pristine one, in that directory, to read its script from `lines`. Its `listener` is -1 if it
 * failed on its way: it is still there to be killed. */
pid_t bash_start(int lines, bool pristine, const char *directory, int *listener);
#endif
