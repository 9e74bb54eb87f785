/* The record of events: what the processes of the box do, as frames for the host. */
#ifndef EVENTS_H
#define EVENTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "descriptors.h"
#include "threads.h"

/* A process was seen for the first time. */
void event_process(const struct thread *t);
/* Our bash begins. */
void event_shell(const struct thread *t);
/* A program begins; its arguments are read from that process, at address `argv`. */
void event_exec(const struct thread *t, const char *path, uint64_t argv);
/* A process ends with that exit code. */
void event_exit(pid_t pid, uint32_t code);
/* A write of `total` bytes to a descriptor, the first n of them at `bytes`. */
void event_write(const struct thread *t, int fd, enum destination to, const unsigned char *bytes, size_t n,
                 uint64_t total);
#define BY_THE_SHELL 0x80u /* set in a write's destination: our bash says it itself, on stderr */
/* A line of the shell's trace, or a piece of one: type T begins a line, C continues it. */
void event_trace(const struct thread *t, char type, const unsigned char *bytes, size_t n);
#endif
