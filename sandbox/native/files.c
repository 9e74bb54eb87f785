/* Single files as PID 1 reads and writes them. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

#define CHUNK (1u << 20) /* read at once */

bool path_from(const unsigned char *bytes, size_t n, char *path) {
    if (!bytes || !n || n >= PATH_MAX || memchr(bytes, 0, n)) return false;
    memcpy(path, bytes, n);
    path[n] = 0;
    return true;
}

void files_answer(int failed) {
    if (failed) {
        host_error(failed, strerror(failed));
        return;
    }
    frame_open(&host_out, '.');
    frame_close(&host_out);
}

void file_get(struct reader *r) {
    uint32_t limit = read_u32(r);
    char path[PATH_MAX];
    struct stat st;
    if (r->bad || limit > FRAME_MAX - 64 || !path_from(r->at, read_left(r), path)) {
        host_error(EINVAL, "get");
        return;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st)) {
        host_error(errno, path);
    } else if (!S_ISREG(st.st_mode)) {
        host_error(S_ISDIR(st.st_mode) ? EISDIR : EINVAL, path);
    } else {
        frame_open(&host_out, '.');
        put_u64(&host_out, (uint64_t)st.st_size);
        size_t left = limit;
        while (left) {
            size_t part = left < CHUNK ? left : CHUNK;
            ssize_t n = read(fd, buffer_room(&host_out, part), part);
            if (n <= 0) break;
            host_out.end += (size_t)n;
            left -= (size_t)n;
        }
        frame_close(&host_out);
    }
    if (fd >= 0) close(fd);
}

int write_all(int fd, const unsigned char *bytes, size_t n) {
    while (n) {
        ssize_t k = write(fd, bytes, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return errno ? errno : EIO;
        bytes += k;
        n -= (size_t)k;
    }
    return 0;
}

static void make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

void file_put(struct reader *r) {
    uint32_t mode = read_u32(r);
    bool append = read_u8(r);
    uint32_t length = read_u32(r);
    char path[PATH_MAX];
    if (!path_from(read_bytes(r, length), length, path)) {
        host_error(EINVAL, "put");
        return;
    }
    make_parents(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (append ? O_APPEND : O_TRUNC), 0600);
    if (fd < 0) {
        files_answer(errno);
        return;
    }
    int failed = write_all(fd, r->at, read_left(r));
    if (!failed && fchmod(fd, mode & 07777)) failed = errno;
    close(fd);
    files_answer(failed);
}
