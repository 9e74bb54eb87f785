/* The record of events: what the processes of the box do, as frames for the host.
 *
 * docs/sandbox.md has the table of frames. Every event but N begins with the microseconds since the command began and
 * the number of the process. */
#include "events.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "frames.h"
#include "host.h"
#include "peek.h"

#define EVENT_COST 32u  /* what an event costs of the limit besides its text: a flood of small ones must end, too */
#define ARGV_MAX 32768u /* kept of one argument vector */

static void begin(char type, pid_t pid) {
    frame_open(&host_out, type);
    put_u64(&host_out, command_us());
    put_u32(&host_out, (uint32_t)pid);
}

void event_process(const struct thread *t) {
    frame_open(&host_out, 'N');
    put_u32(&host_out, (uint32_t)t->pid);
    put_u32(&host_out, (uint32_t)t->parent);
    frame_close(&host_out);
}

void event_shell(const struct thread *t) {
    begin('B', t->pid);
    frame_close(&host_out);
}

void event_exec(const struct thread *t, const char *path, uint64_t argv) {
    begin('X', t->pid);
    put_u32(&host_out, (uint32_t)t->parent);
    buffer_add(&host_out, path, strlen(path) + 1);
    size_t budget = command.left.recorded < ARGV_MAX ? (size_t)command.left.recorded : ARGV_MAX, left = budget;
    for (; left; argv += sizeof(uint64_t)) {
        uint64_t word = 0;
        if (peek(t->tid, argv, &word, sizeof word) != sizeof word || !word) break;
        char *argument = (char *)buffer_room(&host_out, left + 1);
        size_t n = peek_string(t->tid, word, argument, left);
        argument[n] = 0;
        host_out.end += n + 1;
        left -= n < left ? n + 1 : left;
    }
    command_charge(budget - left);
    frame_close(&host_out);
}

void event_exit(pid_t pid, uint32_t code) {
    begin('E', pid);
    put_u32(&host_out, code);
    frame_close(&host_out);
}

void event_write(const struct thread *t, int fd, enum destination to, const unsigned char *bytes, size_t n,
                 uint64_t total) {
    char path[40], where[PATH_MAX] = "";
    if (to != TERMINAL && to != CLOSED) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", t->tid, fd);
        ssize_t k = readlink(path, where, sizeof where - 1);
        where[k > 0 ? k : 0] = 0;
    }
    size_t cost = strlen(where) + EVENT_COST;
    size_t room = command.left.recorded > cost ? (size_t)command.left.recorded - cost : 0;
    size_t keep = n < room ? n : room;
    if (to != TERMINAL) command.cut += total - keep; /* what the terminal shows is counted there */
    if (!room || (!keep && total)) return;
    command_charge(keep + cost);
    begin('W', t->pid);
    put_u8(&host_out, (uint8_t)fd);
    put_u8(&host_out, (uint8_t)to);
    put_u64(&host_out, total);
    put_u32(&host_out, (uint32_t)strlen(where));
    buffer_add(&host_out, where, strlen(where));
    buffer_add(&host_out, bytes, keep);
    frame_close(&host_out);
}

void event_trace(const struct thread *t, char type, const unsigned char *bytes, size_t n) {
    if (n + EVENT_COST > command.left.recorded) return;
    command_charge(n + EVENT_COST);
    begin(type, t->pid);
    buffer_add(&host_out, bytes, n - !t->in_trace); /* without the newline that ends the trace */
    frame_close(&host_out);
}

struct event_mark events_mark(void) {
    return (struct event_mark){host_out.end - host_out.start, command.left.recorded, command.cut};
}

bool events_since(const struct event_mark *mark) { return host_out.end - host_out.start > mark->held; }

void events_take_back(const struct event_mark *mark) {
    host_out.end = host_out.start + mark->held;
    command.left.recorded = mark->recorded;
    command.cut = mark->cut;
}
