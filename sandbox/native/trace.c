/* One notification at a time: what is about to be written, executed or ended, told to the host as an event. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define WRITE_MAX (1u << 20) /* kept of one write */
#define ARGV_MAX 32768u   /* kept of one argument vector */
#define TRACE_MARK '\036' /* begins every xtrace line: the first character of PS4, repeated per level */

bool trace_visible, trace_ours;

/* Where a descriptor leads. */
enum leads { TERMINAL, NOWHERE, CLOSED, FILE_, PIPE, SOCKET, OTHER };

static unsigned char text[WRITE_MAX];

static ssize_t peek(pid_t tid, uint64_t address, void *bytes, size_t n) {
    struct iovec ours = {bytes, n}, theirs = {(void *)(uintptr_t)address, n};
    ssize_t got = process_vm_readv(tid, &ours, 1, &theirs, 1, 0);
    if (got >= 0) return got;
    char path[40]; /* refused when the process is not dumpable, as apt's are; the file asks for less */
    snprintf(path, sizeof path, "/proc/%d/mem", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    got = pread(fd, bytes, n, (off_t)address);
    close(fd);
    return got;
}

/* Length of the string at `address`, at most n bytes of it in `s`; stops at the first unreadable page. */
static size_t peek_string(pid_t tid, uint64_t address, char *s, size_t n) {
    size_t have = 0;
    while (have < n) {
        size_t chunk = 256 - (address + have) % 256;
        if (chunk > n - have) chunk = n - have;
        ssize_t got = peek(tid, address + have, s + have, chunk);
        if (got <= 0) break;
        const char *end = memchr(s + have, 0, (size_t)got);
        if (end) return (size_t)(end - s);
        have += (size_t)got;
    }
    return have;
}

static enum leads leads(pid_t tid, int fd) {
    char path[40];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, fd);
    if (stat(path, &st)) return errno == ENOENT ? CLOSED : OTHER;
    if (S_ISCHR(st.st_mode)) {
        if (st.st_rdev == terminal_device) return TERMINAL;
        return st.st_rdev == makedev(1, 3) ? NOWHERE : OTHER;
    }
    return S_ISREG(st.st_mode) ? FILE_ : S_ISFIFO(st.st_mode) ? PIPE : S_ISSOCK(st.st_mode) ? SOCKET : OTHER;
}

/* Our terminal is open twice: the descriptor given to the shell as stderr carries O_APPEND, which means nothing
 * on a terminal and marks every copy of it. */
static bool marked_stderr(pid_t tid, int fd) {
    char path[48], info[256];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", tid, fd);
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0) return false;
    ssize_t n = read(f, info, sizeof info - 1);
    close(f);
    info[n > 0 ? n : 0] = 0;
    const char *flags = strstr(info, "flags:");
    return flags && strtoul(flags + 6, NULL, 8) & O_APPEND;
}

static size_t gather(pid_t tid, uint64_t address, uint64_t count, uint64_t *total) {
    struct iovec v[64];
    size_t n = count < 64 ? (size_t)count : 64, have = 0;
    ssize_t got = peek(tid, address, v, n * sizeof *v);
    *total = 0;
    for (size_t i = 0; got > 0 && i < (size_t)got / sizeof *v; i++) {
        *total += v[i].iov_len;
        size_t part = v[i].iov_len < WRITE_MAX - have ? v[i].iov_len : WRITE_MAX - have;
        ssize_t k = part ? peek(tid, (uint64_t)(uintptr_t)v[i].iov_base, text + have, part) : 0;
        if (k > 0) have += (size_t)k;
    }
    return have;
}

/* What sendfile, splice or copy_file_range is about to move: readable only when it comes from a file. */
static size_t from_file(pid_t tid, int fd, uint64_t offset_at, uint64_t count) {
    char path[48], info[128];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, fd);
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0) return 0;
    int64_t offset = 0;
    if (offset_at) {
        peek(tid, offset_at, &offset, sizeof offset);
    } else {
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", tid, fd);
        int f = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = f < 0 ? 0 : read(f, info, sizeof info - 1);
        if (f >= 0) close(f);
        info[n > 0 ? n : 0] = 0;
        const char *pos = strstr(info, "pos:");
        if (pos) offset = strtoll(pos + 4, NULL, 10);
    }
    ssize_t n = pread(file, text, count < WRITE_MAX ? (size_t)count : WRITE_MAX, (off_t)offset);
    close(file);
    return n > 0 ? (size_t)n : 0;
}

/* Reads what a writing system call is about to write into `text`; `total` is its full length. */
static size_t written(const struct seccomp_notif *r, uint64_t *total) {
    pid_t tid = (pid_t)r->pid;
    const uint64_t *a = (const uint64_t *)r->data.args;
    struct msghdr m;
    switch (r->data.nr) {
    case SYS_writev:
    case SYS_pwritev:
    case SYS_pwritev2:
        return gather(tid, a[1], a[2], total);
    case SYS_sendmsg:
        *total = 0;
        if (peek(tid, a[1], &m, sizeof m) != sizeof m) return 0;
        return gather(tid, (uint64_t)(uintptr_t)m.msg_iov, m.msg_iovlen, total);
    case SYS_sendfile:
        *total = a[3];
        *total = from_file(tid, (int)a[1], a[2], a[3]);
        return (size_t)*total;
    case SYS_splice:
    case SYS_copy_file_range:
        *total = from_file(tid, (int)a[0], a[1], a[4]);
        return (size_t)*total;
    default: { /* write, pwrite64, sendto */
        *total = a[2];
        ssize_t n = peek(tid, a[1], text, a[2] < WRITE_MAX ? (size_t)a[2] : WRITE_MAX);
        return n > 0 ? (size_t)n : 0;
    }
    }
}

static void event(char type, const struct process *p) {
    frame_open(&out, type);
    put_u64(&out, command_us());
    put_u32(&out, (uint32_t)p->pid);
}

static void event_write(const struct process *p, int fd, enum leads to, const unsigned char *bytes, size_t n, uint64_t total) {
    char path[40], where[PATH_MAX] = "";
    if (to != TERMINAL && to != CLOSED) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", p->tid, fd);
        ssize_t k = readlink(path, where, sizeof where - 1);
        where[k > 0 ? k : 0] = 0;
    }
    size_t keep = n < command.left.recorded ? n : (size_t)command.left.recorded;
    if (to != TERMINAL) command.cut += total - keep; /* what the terminal shows is counted there */
    if (!keep && total) return;
    command.left.recorded -= keep;
    event('W', p);
    put_u8(&out, (uint8_t)fd);
    put_u8(&out, (uint8_t)to);
    put_u64(&out, total);
    put_u32(&out, (uint32_t)strlen(where));
    buffer_add(&out, where, strlen(where));
    buffer_add(&out, bytes, keep);
    frame_close(&out);
}

/* `set -x`, `set -ex`, `set -o xtrace`: 1; the same with `+`: -1; anything else: 0. */
static int turns_trace(const char *words) {
    if (strncmp(words, "set ", 4)) return 0;
    int turn = 0;
    for (const char *w = words + 4; *w && *w != '\n'; w += strcspn(w, " \n"), w += *w == ' ') {
        if (*w != '-' && *w != '+') continue;
        size_t n = strcspn(w, " \n");
        bool long_name = n == 2 && w[1] == 'o' && !strncmp(w + 2, " xtrace", 7);
        if (long_name || (w[1] != '-' && memchr(w + 1, 'x', n - 1))) turn = *w == '-' ? 1 : -1;
    }
    return turn;
}

/* Whether the words of a trace, so far, end inside quotes: bash quotes a newline by '...', and writes line by line. */
static uint8_t quotes(uint8_t state, const unsigned char *s, size_t n) {
    enum { PLAIN, SINGLE, ESCAPED, DOLLAR, ANSI, ANSI_ESCAPED };
    for (size_t i = 0; i < n; i++) {
        unsigned char c = s[i];
        switch (state) {
        case SINGLE:
            state = c == '\'' ? PLAIN : SINGLE;
            break;
        case ESCAPED:
            state = PLAIN;
            break;
        case ANSI:
            state = c == '\'' ? PLAIN : c == '\\' ? ANSI_ESCAPED : ANSI;
            break;
        case ANSI_ESCAPED:
            state = ANSI;
            break;
        default:
            state = c == '\'' ? (state == DOLLAR ? ANSI : SINGLE) : c == '\\' ? ESCAPED : c == '$' ? DOLLAR : PLAIN;
        }
    }
    return state == DOLLAR ? PLAIN : state;
}

/* Shows a piece of trace if the agent itself asked for one. */
static void trace_shown(const struct process *p, size_t plusses, const unsigned char *words, size_t n) {
    static unsigned char line[WRITE_MAX + 64];
    memset(line, '+', plusses);
    if (plusses) line[plusses++] = ' ';
    memcpy(line + plusses, words, n);
    enum leads to = leads(p->tid, 2);
    if (to == TERMINAL) terminal_show(line, plusses + n);
    event_write(p, 2, to, line, plusses + n, plusses + n);
}

/* One write of xtrace by our shell: "\036\036X<status>:<depth>:<words>\n", or the rest of one that was too long for one
 * write. It goes to the host, and to the terminal only if the agent itself asked for a trace. */
static void trace_line(struct process *p, size_t n) {
    size_t level = 0;
    const unsigned char *from = text, *words = text, *end = text + n;
    char type = 'C';
    if (!p->in_trace) {
        while (level < n && text[level] == TRACE_MARK) level++;
        type = 'T';
        from = text + level + 1;
        words = from < end ? memchr(from, ':', (size_t)(end - from)) : NULL;
        if (words) words = memchr(words + 1, ':', (size_t)(end - words - 1));
        if (!words) return;
        words++;
        p->quotes = 0;
        p->ours = trace_ours;
    }
    size_t length = (size_t)(end - words);
    p->quotes = quotes(p->quotes, words, length);
    p->in_trace = end[-1] != '\n' || p->quotes;
    if (type == 'T' && length > 8 && !memcmp(words, "eval -- ", 8)) trace_ours = false; /* here the command begins */
    if (p->ours) return;
    if ((size_t)(end - from) <= command.left.recorded) {
        command.left.recorded -= (size_t)(end - from);
        event(type, p);
        buffer_add(&out, from, (size_t)(end - from) - !p->in_trace);
        frame_close(&out);
    }
    if (trace_visible) {
        size_t plusses = type == 'C' ? 0 : level > 2 ? level - 1 : 1; /* our eval is one level */
        trace_shown(p, plusses < 32 ? plusses : 32, words, length);
    }
    char line[64] = "";
    memcpy(line, words, length < sizeof line - 1 ? length : sizeof line - 1);
    int turn = type == 'T' ? turns_trace(line) : 0;
    if (turn) trace_visible = turn > 0;
}

static bool about_to_write(const struct seccomp_notif *r, struct process *p) {
    bool elsewhere = r->data.nr == SYS_splice || r->data.nr == SYS_copy_file_range;
    int fd = (int)r->data.args[elsewhere ? 2 : 0];
    enum leads to = leads(p->tid, fd);
    uint64_t total;
    if (fd == 1) {
        bool copy = to == TERMINAL ? marked_stderr(p->tid, 1) : p->copies & 1;
        if (!copy) return false;
    }
    if (p->shell && fd == 2 && r->data.nr == SYS_write) {
        size_t n = written(r, &total);
        if (n && p->pid == shell_pid && shell_marker(text, n)) return true;
        size_t level = 0;
        while (level < n && text[level] == TRACE_MARK) level++;
        if (n && (p->in_trace || (level && level < n && text[level] == 'X'))) {
            trace_line(p, n);
            return true;
        }
        event_write(p, fd, to, text, n, total);
        return false;
    }
    size_t n = written(r, &total);
    event_write(p, fd, to, text, n, total);
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
    size_t left = ARGV_MAX;
    for (uint64_t at_word = a[at ? 2 : 1]; left; at_word += sizeof(uint64_t)) {
        uint64_t word = 0;
        if (peek(p->tid, at_word, &word, sizeof word) != sizeof word || !word) break;
        char *argument = (char *)buffer_room(&out, left + 1);
        size_t n = peek_string(p->tid, word, argument, left);
        argument[n] = 0;
        out.end += n + 1;
        left -= n < left ? n + 1 : left;
    }
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
