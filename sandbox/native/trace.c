/* One notification at a time: what is about to be written, executed or ended, told to the host as an event. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGV_MAX 32768u /* kept of one argument vector */

void event(char type, const struct process *p) {
    frame_open(&out, type);
    put_u64(&out, command_us());
    put_u32(&out, (uint32_t)p->pid);
}

void charge(size_t n) { command.left.recorded -= n < command.left.recorded ? n : command.left.recorded; }

void event_write(const struct process *p, int fd, enum leads to, const unsigned char *bytes, size_t n, uint64_t total) {
    char path[40], where[PATH_MAX] = "";
    if (to != TERMINAL && to != CLOSED) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", p->tid, fd);
        ssize_t k = readlink(path, where, sizeof where - 1);
        where[k > 0 ? k : 0] = 0;
    }
    size_t cost = strlen(where) + EVENT_COST;
    size_t room = command.left.recorded > cost ? (size_t)command.left.recorded - cost : 0;
    size_t keep = n < room ? n : room;
    if (to != TERMINAL) command.cut += total - keep; /* what the terminal shows is counted there */
    if (!room || (!keep && total)) return;
    charge(keep + cost);
    event('W', p);
    put_u8(&out, (uint8_t)fd);
    put_u8(&out, (uint8_t)to);
    put_u64(&out, total);
    put_u32(&out, (uint32_t)strlen(where));
    buffer_add(&out, where, strlen(where));
    buffer_add(&out, bytes, keep);
    frame_close(&out);
}

static bool about_to_write(const struct seccomp_notif *r, struct process *p) {
    int number = r->data.nr;
    int fd = (int)r->data.args[number == SYS_splice || number == SYS_copy_file_range ? 2 : number == SYS_tee ? 1 : 0];
    enum leads to = leads(p->tid, fd);
    uint64_t total;
    if (fd == 1) {
        bool copy = p->copies & 1;
        /* On the terminal the mark is certain, but after `2>&1` stderr bears none itself. */
        if (to == TERMINAL) copy = marked_stderr(p->tid, 1) || (copy && leads(p->tid, 2) == TERMINAL && !marked_stderr(p->tid, 2));
        if (!copy) return false;
    }
    if (number == SYS_copy_file_range && to != FILE_) return false; /* it works between files only */
    size_t n = written(r, &total);
    if (n && p->shell && fd == 2 && number == SYS_write) {
        if (p->pid == shell_pid && (shell_marker(caught, n) || shell_echo(caught, n))) return true;
        if (trace_line(p, n)) return true;
    }
    event_write(p, fd, to, caught, n, total);
    return false;
}

/* A descriptor moves onto 1. Bash saves what it replaces at 10 or above and moves it back when the redirection ends:
 * `copies` is that stack, one bit a level. */
static void about_to_dup(const struct seccomp_notif *r, struct process *p) {
    int from = (int)r->data.args[0];
    if (from == 1) return;
    if (from >= 10)
        p->copies >>= 1;
    else
        p->copies = (uint16_t)(p->copies << 1) | (from == 2);
}

/* Whether the file can be executed at all: shells and `env` try each directory of PATH in turn. */
static bool executable(pid_t tid, const char *path, int at) {
    char full[PATH_MAX + 64];
    if (*path == '/')
        snprintf(full, sizeof full, "%s", path);
    else if (at == AT_FDCWD)
        snprintf(full, sizeof full, "/proc/%d/cwd/%s", tid, path);
    else if (*path)
        snprintf(full, sizeof full, "/proc/%d/fd/%d/%s", tid, at, path);
    else
        return true;
    struct stat st;
    return !stat(full, &st) && S_ISREG(st.st_mode) && st.st_mode & 0111;
}

static void about_to_exec(const struct seccomp_notif *r, struct process *p) {
    if (p->pid == shell_pid && !shell_ready) { /* ours, not yet the agent's */
        p->shell = true;
        p->copies = 0;
        event('B', p);
        frame_close(&out);
        return;
    }
    bool at = r->data.nr == SYS_execveat;
    const uint64_t *a = (const uint64_t *)r->data.args;
    char path[PATH_MAX] = "";
    path[peek_string(p->tid, a[at ? 1 : 0], path, sizeof path - 1)] = 0;
    if (!executable(p->tid, path, at ? (int)a[0] : AT_FDCWD)) return;
    p->shell = false;
    p->copies &= 1; /* what bash saved closes on exec; what it redirected stays */
    event('X', p);
    put_u32(&out, (uint32_t)p->parent);
    buffer_add(&out, path, strlen(path) + 1);
    size_t budget = command.left.recorded < ARGV_MAX ? (size_t)command.left.recorded : ARGV_MAX, left = budget;
    for (uint64_t at_word = a[at ? 2 : 1]; left; at_word += sizeof(uint64_t)) {
        uint64_t word = 0;
        if (peek(p->tid, at_word, &word, sizeof word) != sizeof word || !word) break;
        char *argument = (char *)buffer_room(&out, left + 1);
        size_t n = peek_string(p->tid, word, argument, left);
        argument[n] = 0;
        out.end += n + 1;
        left -= n < left ? n + 1 : left;
    }
    charge(budget - left);
    frame_close(&out);
}

void trace_one(int listener) {
    static struct {
        struct seccomp_notif request;
        unsigned char newer_kernels_fill_more[512];
    } in;
    struct seccomp_notif *r = &in.request;
    struct seccomp_notif_resp answer = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    memset(&in, 0, sizeof in);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, r)) return;
    answer.id = r->id;
    /* The event is kept only if the caller still waited when it was let go: a caller killed or interrupted
     * before that did not do it (and an interrupted one will come again). */
    uint64_t recorded = command.left.recorded, cut = command.cut;
    struct process *p = process_seen((pid_t)r->pid);
    size_t after_birth = out.end - out.start;
    bool swallow = false, event_made;
    if (p) {
        switch (r->data.nr) {
        case SYS_execve:
        case SYS_execveat:
            about_to_exec(r, p);
            break;
        case SYS_exit:
            if (p->tid != p->pid) break; /* one thread of several */
            /* fall through */
        case SYS_exit_group:
            event('E', p);
            put_u32(&out, (uint32_t)(r->data.args[0] & 255));
            frame_close(&out);
            break;
#ifdef SYS_dup2
        case SYS_dup2:
#endif
        case SYS_dup3:
            about_to_dup(r, p);
            break;
        case SYS_clone:
#ifdef SYS_fork
        case SYS_fork:
        case SYS_vfork:
#endif
            if (pids_exhausted()) {
                answer.flags = 0;
                answer.error = -EAGAIN;
            }
            break;
        default:
            swallow = about_to_write(r, p);
        }
    }
    event_made = out.end - out.start > after_birth;
    if (swallow) {
        answer.flags = 0;
        answer.val = (int64_t)r->data.args[2];
    }
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) && errno == ENOENT && event_made && !swallow) {
        out.end = out.start + after_birth;
        command.left.recorded = recorded;
        command.cut = cut;
    }
    if (p && (r->data.nr == SYS_exit_group)) process_gone(p->pid);
}
