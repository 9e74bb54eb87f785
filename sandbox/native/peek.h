/* Looks into the memory of a process that waits in a system call: what it is about to write, and its arguments. */
#ifndef PEEK_H
#define PEEK_H
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WRITE_MAX (1u << 20) /* kept of one write */

/* Memory of another process; how many bytes could be read, or -1. */
ssize_t peek(pid_t tid, uint64_t address, void *bytes, size_t n);
/* Length of the string at `address`, at most n bytes of it in `s`; stops at the first unreadable page. */
size_t peek_string(pid_t tid, uint64_t address, char *s, size_t n);
/* Reads what a writing system call is about to write into `peeked`: how much of it; `total` is its full length. */
size_t peek_write(const struct seccomp_notif *r, uint64_t *total);
extern unsigned char peeked[WRITE_MAX];
#endif
