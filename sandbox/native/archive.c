/* The archives that snapshots are made of.
 *
 * An archive is a run of entries: u8 kind, u32 mode, u32 uid, u32 gid, u64 mtime seconds, u32 nanoseconds,
 * u32 length + path (relative to /), u64 length + bytes. Kinds: d directory, f file, a more bytes of the last file,
 * l symbolic link, p fifo, x removed, t times of a directory once its content is there. Hard links become
 * separate files; sockets and devices are left out. */
#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files.h"
#include "host.h"
#include "settings.h"

#define CHUNK (1u << 20) /* read at once, and about what one frame holds */
static unsigned char chunk[CHUNK];

/* ---- packing */

static void entry(char kind, const struct stat *st, const char *path, const void *bytes, size_t n) {
    put_u8(&host_out, (uint8_t)kind);
    put_u32(&host_out, st->st_mode & 07777);
    put_u32(&host_out, st->st_uid);
    put_u32(&host_out, st->st_gid);
    put_u64(&host_out, (uint64_t)st->st_mtim.tv_sec);
    put_u32(&host_out, (uint32_t)st->st_mtim.tv_nsec);
    put_u32(&host_out, (uint32_t)strlen(path));
    buffer_add(&host_out, path, strlen(path));
    put_u64(&host_out, n);
    buffer_add(&host_out, bytes, n);
    if (host_out.end - host_out.start > CHUNK) { /* one A frame a megabyte, of whole entries */
        frame_close(&host_out);
        host_flush();
        frame_open(&host_out, 'A');
    }
}

static void pack_removed(const char *path) {
    static const struct stat nothing;
    entry('x', &nothing, path, NULL, 0);
}

/* Packs what `name` in directory `at` is, as `path`; descends if asked. `upper`: the overlay's own marks are read. */
static void pack(int at, const char *name, char *path, bool descend, bool upper) {
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW)) return;
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0) && upper) {
        pack_removed(path);
    } else if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(at, name, (char *)chunk, PATH_MAX); /* not on the stack: directories nest deep */
        if (n >= 0) entry('l', &st, path, chunk, (size_t)n);
    } else if (S_ISFIFO(st.st_mode)) {
        entry('p', &st, path, NULL, 0);
    } else if (S_ISREG(st.st_mode)) {
        int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) return;
        char kind = 'f';
        ssize_t n;
        while ((n = read(fd, chunk, CHUNK)) > 0 || kind == 'f') {
            entry(kind, &st, path, chunk, n > 0 ? (size_t)n : 0);
            kind = 'a';
        }
        close(fd);
    } else if (S_ISDIR(st.st_mode)) {
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        if (!directory) {
            if (fd >= 0) close(fd);
            return;
        }
        char opaque = 0;
        if (upper && fgetxattr(fd, "user.overlay.opaque", &opaque, 1) == 1 && opaque == 'y') pack_removed(path);
        size_t length = strlen(path);
        if (length) entry('d', &st, path, NULL, 0);
        for (struct dirent *e; descend && (e = readdir(directory));) {
            size_t more = strlen(e->d_name);
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || length + more + 2 > PATH_MAX) continue;
            if (length) path[length] = '/';
            memcpy(path + length + (length > 0), e->d_name, more + 1);
            pack(fd, e->d_name, path, true, upper);
            path[length] = 0;
        }
        if (length) entry('t', &st, path, NULL, 0);
        closedir(directory);
    }
}

/* The request lists paths, each with a sign and a zero at its end: `-` removed since the start, `+` this one alone,
 * `*` all below it. An empty request means the overlay's upper directory, which holds exactly what changed. */
void archive_pack(struct reader *r) {
    char path[PATH_MAX];
    frame_open(&host_out, 'A');
    if (!read_left(r) && settings.upper >= 0) {
        *path = 0;
        pack(settings.upper, ".", path, true, true);
    }
    while (read_left(r)) {
        const unsigned char *end = memchr(r->at, 0, read_left(r));
        const char *name = (const char *)r->at + 1;
        if (!end || end - r->at < 2 || end - r->at >= PATH_MAX) break;
        char sign = (char)*r->at;
        name += *name == '/';
        snprintf(path, sizeof path, "%s", name);
        char absolute[PATH_MAX + 1];
        snprintf(absolute, sizeof absolute, "/%s", name);
        if (sign == '-') pack_removed(path);
        else pack(AT_FDCWD, absolute, path, sign == '*', false);
        r->at = end + 1;
    }
    frame_close(&host_out);
    files_answer(0);
}

/* ---- unpacking */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void make_way(const char *path, bool keep_directory) {
    struct stat st;
    if (lstat(path, &st) || (keep_directory && S_ISDIR(st.st_mode))) return;
    nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int restore(char kind, const char *path, const struct stat *st, const unsigned char *bytes, size_t n) {
    char target[PATH_MAX];
    int fd = -1, failed = 0;
    switch (kind) {
    case 'x':
        make_way(path, false);
        return 0;
    case 'd':
        make_way(path, true);
        if (mkdir(path, 0700) && errno != EEXIST) return errno;
        break;
    case 'l':
        make_way(path, false);
        if (!path_from(bytes, n, target) || symlink(target, path)) return errno ? errno : EINVAL;
        break;
    case 'p':
        make_way(path, false);
        if (mkfifo(path, 0600)) return errno;
        break;
    case 'f':
    case 'a':
        if (kind == 'f') make_way(path, false);
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (kind == 'f' ? O_CREAT | O_EXCL : O_APPEND), 0600);
        if (fd < 0) return errno;
        failed = write_all(fd, bytes, n);
        close(fd);
        if (failed) return failed;
        break;
    case 't':
        break;
    default:
        return EBADMSG;
    }
    if (lchown(path, st->st_uid, st->st_gid) && errno != EINVAL && errno != EPERM) return errno;
    if (kind != 'l' && chmod(path, st->st_mode)) return errno;
    const struct timespec times[2] = {{0, UTIME_OMIT}, st->st_mtim};
    return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) ? errno : 0;
}

void archive_unpack(struct reader *r) {
    char path[PATH_MAX];
    while (read_left(r)) {
        char kind = (char)read_u8(r);
        struct stat st = {.st_mode = read_u32(r)};
        st.st_uid = read_u32(r);
        st.st_gid = read_u32(r);
        st.st_mtim.tv_sec = (time_t)read_u64(r);
        st.st_mtim.tv_nsec = read_u32(r);
        uint32_t length = read_u32(r);
        path[0] = '/';
        const unsigned char *name = read_bytes(r, length);
        if (!name || length + 1 >= PATH_MAX || !path_from(name, length, path + 1)) break;
        uint64_t n = read_u64(r);
        const unsigned char *bytes = read_bytes(r, n);
        if (r->bad) break;
        errno = 0;
        int failed = restore(kind, path, &st, bytes, n);
        if (failed) {
            host_error(failed, path);
            return;
        }
    }
    files_answer(r->bad ? EBADMSG : 0);
}
