/* Reading the small files of /proc. */
#ifndef PROC_H
#define PROC_H
#include <sys/types.h>

/* The file of that name (a format, as for printf), with a zero at its end: its length, or -1. */
ssize_t proc_read(char *text, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Where the stack of a process begins: forks share it, and every exec draws another. 0 if unknown. */
unsigned long proc_stack(pid_t pid);
#endif
