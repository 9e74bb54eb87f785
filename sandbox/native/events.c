/* The record of events: what the processes of the box do, as frames for the host.
 *
 * docs/sandbox.md has the table of frames. Every event but N begins with the microseconds since the command began and
 * the number of the process; record.c decides which are kept. */
#include "events.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "frames.h"
#include "peek.h"
#include "proc.h"
#include "record.h"

#define ARGV_MAX 32768u /* kept of one argument vector */

static struct buffer *begin(char type, pid_t pid) {
    struct buffer *out = record_open(type);
    put_u64(out, command_us());
    put_u32(out, (uint32_t)pid);
    return out;
}

void event_process(const struct thread *t) {
    char line[4096];
    struct buffer *out = record_open('N');
    put_u32(out, (uint32_t)t->pid);
    put_u32(out, (uint32_t)t->parent);
    if (t->parent == getpid()) { /* its parent died before it was heard of: nobody knows whose child it was */
        ssize_t n = proc_read(line, sizeof line, "/proc/%d/cmdline", t->pid);
        if (n > 0) buffer_add(out, line, (size_t)n);
    }
    record_close();
}

void event_shell(const struct thread *t) {
    begin('B', t->pid);
    record_close();
}

void event_exec(const struct thread *t, const char *path, uint64_t argv) {
    struct buffer *out = begin('X', t->pid);
    put_u32(out, (uint32_t)t->parent);
    buffer_add(out, path, strlen(path) + 1);
    for (size_t left = ARGV_MAX; left; argv += sizeof(uint64_t)) {
        uint64_t word = 0;
        if (peek(t->tid, argv, &word, sizeof word) != sizeof word || !word) break;
        char *argument = (char *)buffer_room(out, left + 1);
        size_t n = peek_string(t->tid, word, argument, left);
        argument[n] = 0;
        out->end += n + 1;
        left -= n < left ? n + 1 : left;
    }
    record_close();
}

void event_exit(pid_t pid, uint32_t code) {
    put_u32(begin('E', pid), code);
    record_close();
}

void event_write(const struct thread *t, int fd, enum destination to, const unsigned char *bytes, size_t n,
                 uint64_t total) {
    char path[40], where[PATH_MAX] = "";
    if (to != TERMINAL && to != CLOSED) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", t->tid, fd);
        ssize_t k = readlink(path, where, sizeof where - 1);
        where[k > 0 ? k : 0] = 0;
    }
    if (total > n) record_lost(total - n, to == TERMINAL);
    struct buffer *out = begin('W', t->pid);
    put_u8(out, (uint8_t)fd);
    put_u8(out, (uint8_t)(to | (t->shell && fd == 2 ? BY_THE_SHELL : 0)));
    put_u64(out, total);
    put_u32(out, (uint32_t)strlen(where));
    buffer_add(out, where, strlen(where));
    buffer_add(out, bytes, n);
    record_close();
}

void event_trace(const struct thread *t, char type, const unsigned char *bytes, size_t n) {
    buffer_add(begin(type, t->pid), bytes, n - !t->in_trace); /* without the newline that ends the trace */
    record_close();
}
