/* The processes of the box as they are now: signals to them, and limits on their number and size. */
#include "processes.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "proc.h"
#include "settings.h"

#define TERMINALS 32 /* names in /dev/pts; a rootless box has a devpts that holds no more than 16 */

struct running {
    pid_t pid, parent;
    unsigned long start;
    long threads, pages;
    bool ours;
};

/* Page tables count as memory of their own: reading here and there in a large mapping makes many, and nothing else. */
static long page_tables(pid_t pid, pid_t thread) {
    char text[2048];
    proc_read(text, sizeof text, "/proc/%d/task/%d/status", pid, thread);
    const char *at = strstr(text, "\nVmPTE:");
    return at ? atol(at + 7) * 1024 / sysconf(_SC_PAGESIZE) : 0;
}

/* Reads what /proc says of a process by one of its threads; false if that has ended. */
static bool look(struct running *r, pid_t thread) {
    static const char fields[] =
        " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %lu %llu %ld";
    char line[1024], state;
    unsigned long long size;
    ssize_t n = thread == r->pid ? proc_read(line, sizeof line, "/proc/%d/stat", r->pid)
                                 : proc_read(line, sizeof line, "/proc/%d/task/%d/stat", r->pid, thread);
    const char *rest = n > 0 ? strrchr(line, ')') : NULL; /* the name before it may hold anything */
    if (!rest || sscanf(rest + 1, fields, &state, &r->parent, &r->threads, &r->start, &size, &r->pages) != 6 ||
        state == 'Z' || state == 'X')
        return false;
    if (size >> 32) r->pages += page_tables(r->pid, thread); /* a smaller one has 8 MB of them at most */
    return true;
}

/* Whether a process runs on in other threads although its first one has ended, so that it looks like a zombie. */
static bool look_at_threads(struct running *r) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", r->pid);
    DIR *tasks = r->threads > 1 ? opendir(path) : NULL;
    bool found = false;
    for (struct dirent *e; tasks && !found && (e = readdir(tasks));) {
        pid_t thread = (pid_t)atol(e->d_name);
        found = thread > 0 && look(r, thread);
    }
    if (tasks) closedir(tasks);
    return found;
}

/* Every process below the supervisor. In a box of its own that is every process but PID 1. */
static size_t scan(struct running **running) {
    static struct running *list;
    static size_t capacity;
    size_t n = 0;
    DIR *proc = opendir("/proc");
    if (!proc) return 0;
    pid_t self = getpid();
    for (struct dirent *e; (e = readdir(proc));) {
        pid_t pid = (pid_t)atol(e->d_name);
        struct running r = {.pid = pid};
        if (pid <= 0 || pid == self || (!look(&r, pid) && !look_at_threads(&r))) continue;
        if (n == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            list = realloc(list, capacity * sizeof *list);
            if (!list) abort(); /* as the buffers of frames.c do */
        }
        list[n++] = r;
    }
    closedir(proc);
    for (size_t i = 0; i < n; i++) {
        pid_t up = list[i].parent;
        list[i].ours = settings.pid_one || up == self;
        for (int hops = 0; !list[i].ours && up > 1 && hops < 64; hops++) {
            pid_t next = 0;
            for (size_t j = 0; j < n && !next; j++)
                if (list[j].pid == up) next = list[j].parent;
            up = next;
            list[i].ours = up == self;
        }
    }
    *running = list;
    return n;
}

int kill_since(unsigned long since, pid_t spare, int signal) {
    struct running *list;
    size_t n = scan(&list);
    int met = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].ours && list[i].pid != spare && list[i].start >= since && !kill(list[i].pid, signal)) met++;
    return met;
}

void kill_everything(void) {
    for (int i = 0; i < 500; i++) {
        int met;
        if (settings.pid_one)
            met = kill(-1, SIGKILL) == 0; /* atomic: a fork bomb cannot outrun it */
        else
            met = kill_since(0, 0, SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        if (!met) return;
        usleep(200);
    }
}

bool any_process(bool (*holds)(pid_t pid)) {
    struct running *list;
    size_t n = scan(&list);
    for (size_t i = 0; i < n; i++)
        if (list[i].ours && holds(list[i].pid)) return true;
    return false;
}

bool pids_exhausted(void) {
    static long estimate;
    static uint64_t scanned;
    if (++estimate < settings.pids) return false;
    if (clock_us() - scanned < 2000 && estimate >= settings.pids) {
        estimate--;
        return true;
    }
    struct running *list;
    size_t n = scan(&list);
    long alive = 1;
    for (size_t i = 0; i < n; i++)
        if (list[i].ours) alive += list[i].threads;
    scanned = clock_us();
    estimate = alive;
    return alive >= settings.pids;
}

/* Sockets of the box's network namespace; closed ones count as long as what they sent has not been read. */
static uint64_t sockets(void) {
    char text[512];
    unsigned long long used;
    if (proc_read(text, sizeof text, "/proc/net/sockstat") <= 0 || sscanf(text, "sockets: used %llu", &used) != 1)
        return 0;
    return used;
}

/* The most that one holds: twice the default, since the last message may be as long as the buffer. */
static uint64_t socket_bytes(void) {
    static uint64_t bytes;
    char text[32];
    if (!bytes) {
        proc_read(text, sizeof text, "/proc/sys/net/core/wmem_default");
        bytes = 2 * strtoull(text, NULL, 10);
        if (!bytes) bytes = 2 * 212992;
    }
    return bytes;
}

void enforce_memory(void) {
    struct running *list;
    if (settings.pid_one && !settings.walled && sockets() * socket_bytes() > settings.memory) {
        kill_since(0, 0, SIGKILL); /* nobody can tell whose they are */
        return;
    }
    size_t n = scan(&list), largest = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (!list[i].ours) continue;
        total += (uint64_t)list[i].pages * (uint64_t)sysconf(_SC_PAGESIZE);
        if (list[i].pages > list[largest].pages || !list[largest].ours) largest = i;
    }
    if (n && total > settings.memory) kill(list[largest].pid, SIGKILL);
}

void enforce_terminals(void) {
    static DIR *terminals;
    if (!terminals) terminals = opendir("/dev/pts");
    if (!terminals) return;
    rewinddir(terminals);
    int n = 0;
    while (readdir(terminals)) n++;
    if (n > TERMINALS) kill_since(0, 0, SIGKILL); /* nobody can tell whose they are */
}
