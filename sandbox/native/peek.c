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

#define PIECES 1024u            /* the kernel takes no more at once */
#define MOST 0x7ffff000u        /* bytes, likewise */
static unsigned pieces;         /* that may still be read */
#define FRONT (WRITE_MAX / 2)   /* of a write too long to be kept whole: its front, then its end */

/* Adds n bytes of memory to the `have` bytes of `peeked`, which are the beginning of a write of `total` bytes so far,
 * or its front and its end; returns how many bytes those are then. */
static size_t add(pid_t tid, uint64_t address, uint64_t n, uint64_t *total, size_t have) {
    if (n > MOST - *total) n = MOST - *total;
    *total += n;
    size_t part = n < WRITE_MAX - have ? (size_t)n : WRITE_MAX - have;
    ssize_t k = part ? peek(tid, address, peeked + have, part) : 0;
    if (k > 0) have += (size_t)k;
    if (part && (k < 0 || (size_t)k < part)) { /* what cannot be read cannot be written, either */
        *total -= n - (k > 0 ? (uint64_t)k : 0);
        return have;
    }
    if (n == part) return have;
    address += part;
    n -= part;
    size_t end = n < WRITE_MAX - FRONT ? (size_t)n : WRITE_MAX - FRONT;
    static unsigned char last[WRITE_MAX - FRONT];
    if (peek(tid, address + n - end, last, end) != (ssize_t)end) return have;
    memmove(peeked + FRONT, peeked + FRONT + end, WRITE_MAX - FRONT - end);
    memcpy(peeked + WRITE_MAX - end, last, end);
    return have;
}

/* The same for what `count` pieces of memory hold; of many messages, a thousand pieces in all are read. */
static size_t gather(pid_t tid, uint64_t address, uint64_t count, uint64_t *total, size_t have) {
    static struct iovec v[PIECES];
    size_t n = count < PIECES ? (size_t)count : PIECES;
    ssize_t got = peek(tid, address, v, n * sizeof *v);
    for (size_t i = 0; got > 0 && i < (size_t)got / sizeof *v; i++) {
        uint64_t length = v[i].iov_len;
        if (pieces) have = add(tid, (uint64_t)(uintptr_t)v[i].iov_base, length, total, have);
        else *total += length < MOST - *total ? length : MOST - *total;
        pieces -= pieces > 0;
    }
    return have;
}

static size_t gather_messages(pid_t tid, uint64_t address, uint64_t count, uint64_t *total) {
    struct mmsghdr m;
    size_t have = 0;
    for (uint64_t i = 0; i < count && i < PIECES; i++) /* one msghdr looks like the beginning of an mmsghdr */
        if (peek(tid, address + i * sizeof m, &m.msg_hdr, sizeof m.msg_hdr) == sizeof m.msg_hdr)
            have = gather(tid, (uint64_t)(uintptr_t)m.msg_hdr.msg_iov, m.msg_hdr.msg_iovlen, total, have);
    return have;
}

/* What sendfile, splice or copy_file_range is about to move: readable only when it comes from a file. */
static size_t gather_file(pid_t tid, int fd, uint64_t offset_at, uint64_t count, uint64_t *total) {
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
    size_t whole = st.st_size > offset ? (size_t)(st.st_size - offset) : 0;
    if (count < whole) whole = (size_t)count;
    *total = whole;
    size_t front = whole < WRITE_MAX ? whole : FRONT, have = 0;
    ssize_t n = pread(file, peeked, front, (off_t)offset);
    if (n > 0) have = (size_t)n;
    if (have == FRONT && whole > WRITE_MAX)
        n = pread(file, peeked + have, WRITE_MAX - FRONT, (off_t)(offset + (int64_t)(whole - (WRITE_MAX - FRONT))));
    if (have == FRONT && whole > WRITE_MAX && n > 0) have += (size_t)n;
    close(file);
    return have;
}

size_t peek_write(const struct seccomp_notif *r, uint64_t *total) {
    pid_t tid = (pid_t)r->pid;
    const uint64_t *a = (const uint64_t *)r->data.args;
    *total = 0;
    pieces = PIECES;
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
        return gather_file(tid, (int)a[1], a[2], a[3], total);
    case SYS_splice:
    case SYS_copy_file_range:
        return gather_file(tid, (int)a[0], a[1], a[4], total);
    case SYS_tee: /* from a pipe */
        return 0;
    default: /* write, pwrite64, sendto */
        return add(tid, a[1], a[2], total, 0);
    }
}
