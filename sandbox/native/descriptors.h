/* Where the descriptors of a process lead. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H
#include <stdbool.h>
#include <sys/types.h>

/* CLOSED ones lead nowhere, and so does /dev/null. The host knows these by number. */
enum destination { TERMINAL, NOWHERE, CLOSED, FILE_, PIPE, SOCKET, OTHER };
enum destination destination_of(pid_t tid, int fd);
/* The flags it was opened with, as for open; 0 if unknown. */
unsigned long descriptor_flags(pid_t tid, int fd);
/* Whether both lead to the same opening of the same thing. */
bool same_opening(pid_t tid, int fd, int other);
/* Our terminal is open twice: the descriptor given to the shell as stderr carries O_APPEND, which means nothing
 * on a terminal and marks every copy of it. */
bool is_marked_stderr(pid_t tid, int fd);
#endif
