/* Looks into the memory of a process that waits in a system call: what it is about to write, and its arguments. */
#include "peek.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proc.h"

unsigned char peeked[WRITE_MAX];

ssize_t peek(pid_t tid, uint64_t address, void *bytes, size_t n) {
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

size_t peek_string(pid_t tid, uint64_t address, char *s, size_t n) {
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

/* Adds what `count` pieces of memory hold to the `have` bytes of `peeked`; returns how many those are then. */
static size_t gather(pid_t tid, uint64_t address, uint64_t count, uint64_t *total, size_t have) {
    struct iovec v[64];
    size_t n = count < 64 ? (size_t)count : 64;
    ssize_t got = peek(tid, address, v, n * sizeof *v);
    for (size_t i = 0; got > 0 && i < (size_t)got / sizeof *v; i++) {
        *total += v[i].iov_len;
        size_t part = v[i].iov_len < WRITE_MAX - have ? v[i].iov_len : WRITE_MAX - have;
        ssize_t k = part ? peek(tid, (uint64_t)(uintptr_t)v[i].iov_base, peeked + have, part) : 0;
        if (k > 0) have += (size_t)k;
    }
    return have;
}

static size_t gather_messages(pid_t tid, uint64_t address, uint64_t count, uint64_t *total) {
    struct mmsghdr m;
    size_t have = 0;
    for (uint64_t i = 0; i < count && i < 64; i++) /* one msghdr looks like the beginning of an mmsghdr */
        if (peek(tid, address + i * sizeof m, &m.msg_hdr, sizeof m.msg_hdr) == sizeof m.msg_hdr)
            have = gather(tid, (uint64_t)(uintptr_t)m.msg_hdr.msg_iov, m.msg_hdr.msg_iovlen, total, have);
    return have;
}

/* What sendfile, splice or copy_file_range is about to move: readable only when it comes from a file. */
static size_t gather_file(pid_t tid, int fd, uint64_t offset_at, uint64_t count) {
    char path[48], info[128];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, fd);
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* by now it may be another, a fifo */
    if (file < 0) return 0;
    int64_t offset = 0;
    if (offset_at) {
        peek(tid, offset_at, &offset, sizeof offset);
    } else {
        proc_read(info, sizeof info, "/proc/%d/fdinfo/%d", tid, fd);
        const char *pos = strstr(info, "pos:");
        if (pos) offset = strtoll(pos + 4, NULL, 10);
    }
    ssize_t n = pread(file, peeked, count < WRITE_MAX ? (size_t)count : WRITE_MAX, (off_t)offset);
    close(file);
    return n > 0 ? (size_t)n : 0;
}

size_t peek_write(const struct seccomp_notif *r, uint64_t *total) {
    pid_t tid = (pid_t)r->pid;
    const uint64_t *a = (const uint64_t *)r->data.args;
    *total = 0;
    switch (r->data.nr) {
    case SYS_writev:
    case SYS_pwritev:
    case SYS_pwritev2:
    case SYS_vmsplice:
        return gather(tid, a[1], a[2], total, 0);
    case SYS_sendmsg:
        return gather_messages(tid, a[1], 1, total);
    case SYS_sendmmsg:
        return gather_messages(tid, a[1], a[2], total);
    case SYS_sendfile:
        *total = gather_file(tid, (int)a[1], a[2], a[3]);
        return (size_t)*total;
    case SYS_splice:
    case SYS_copy_file_range:
        *total = gather_file(tid, (int)a[0], a[1], a[4]);
        return (size_t)*total;
    case SYS_tee: /* from a pipe */
        return 0;
    default: { /* write, pwrite64, sendto */
        *total = a[2];
        ssize_t n = peek(tid, a[1], peeked, a[2] < WRITE_MAX ? (size_t)a[2] : WRITE_MAX);
        return n > 0 ? (size_t)n : 0;
    }
    }
}
