/* Who is who in the box: threads and their processes, forks of our shell, limits on their number and size. */
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 8192u
static struct process table[SLOTS];
static unsigned used;

ssize_t slurp(const char *path, char *content, size_t n) {
    *content = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t got = read(fd, content, n - 1);
    close(fd);
    content[got > 0 ? got : 0] = 0;
    return got;
}

static struct process *slot(pid_t tid) {
    unsigned i = (unsigned)tid * 2654435761u % SLOTS;
    while (table[i].tid && table[i].tid != tid) i = (i + 1) % SLOTS;
    return &table[i];
}

/* Rebuilds the table with the threads that still live. */
static void sweep(void) {
    static struct process old[SLOTS];
    memcpy(old, table, sizeof old);
    memset(table, 0, sizeof table);
    used = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/%d", old[i].tid);
        if (old[i].tid && access(path, F_OK) == 0 && used < SLOTS / 2) {
            *slot(old[i].tid) = old[i];
            used++;
        }
    }
}

unsigned long shell_layout;

unsigned long process_layout(pid_t pid) {
    char path[40], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (slurp(path, line, sizeof line) <= 0) return 0;
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < 28; field++) at = strchr(at + 1, ' ');
    return at ? strtoul(at + 1, NULL, 10) : 0;
}

struct process *process_seen(pid_t tid) {
    struct process *p = slot(tid);
    if (p->tid) return p;
    char path[40], line[1024];
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    if (slurp(path, line, sizeof line) <= 0) return NULL;
    const char *group = strstr(line, "\nTgid:"), *parent = strstr(line, "\nPPid:");
    if (!group || !parent) return NULL;
    if (used > SLOTS * 3 / 4) {
        sweep();
        p = slot(tid);
    }
    *p = (struct process){.tid = tid, .pid = (pid_t)atol(group + 6), .parent = (pid_t)atol(parent + 6)};
    used++;
    const struct process *from = slot(p->pid != tid ? p->pid : p->parent);
    if (from->tid) p->copies = from->copies;
    /* Not from the parent's entry: it may have exec'd since it forked this one. */
    p->shell = shell_layout && process_layout(p->pid) == shell_layout;
    if (p->pid == tid) {
        frame_open(&out, 'N');
        put_u32(&out, (uint32_t)tid);
        put_u32(&out, (uint32_t)p->parent);
        frame_close(&out);
    }
    return p;
}

/* Open addressing: taking an entry out would break the chains, so only its claims are taken back. */
void process_gone(pid_t pid) {
    struct process *p = slot(pid);
    if (!p->tid) return;
    p->shell = false;
    p->copies = 0;
}

struct running {
    pid_t pid, parent;
    unsigned long start;
    long threads, pages;
    bool ours;
};

/* Every process below the supervisor. In a box of its own that is every process but PID 1. */
static size_t scan(struct running **found) {
    static struct running *list;
    static size_t capacity;
    size_t n = 0;
    DIR *proc = opendir("/proc");
    if (!proc) return 0;
    pid_t self = getpid();
    for (struct dirent *e; (e = readdir(proc));) {
        pid_t pid = (pid_t)atol(e->d_name);
        char path[40], line[1024];
        if (pid <= 0 || pid == self) continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (slurp(path, line, sizeof line) <= 0) continue;
        const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
        char state;
        struct running r = {.pid = pid};
        if (!rest || sscanf(rest + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %lu %*u %ld",
                            &state, &r.parent, &r.threads, &r.start, &r.pages) != 5)
            continue;
        if (state == 'Z' || state == 'X') continue;
        if (n == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            list = realloc(list, capacity * sizeof *list);
            if (!list) die("memory");
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
    *found = list;
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

bool terminal_awaited(void) {
    struct running *list;
    size_t n = scan(&list);
    for (size_t i = 0; i < n; i++) {
        char path[40], line[256];
        long number;
        unsigned long fd;
        if (!list[i].ours) continue;
        snprintf(path, sizeof path, "/proc/%d/syscall", list[i].pid);
        if (slurp(path, line, sizeof line) <= 0 || sscanf(line, "%ld %lx", &number, &fd) != 2) continue;
        bool one = number == SYS_read || number == SYS_readv;
        bool several = number == SYS_ppoll || number == SYS_pselect6 || number == SYS_epoll_pwait;
#ifdef SYS_poll
        several = several || number == SYS_poll || number == SYS_select || number == SYS_epoll_wait;
#endif
        if ((one || several) && leads(list[i].pid, one ? (int)fd : 0) == TERMINAL) return true;
    }
    return false;
}

bool pids_exhausted(void) {
    static long estimate;
    static uint64_t scanned;
    if (++estimate < settings.pids) return false;
    if (now_us() - scanned < 2000 && estimate >= settings.pids) {
        estimate--;
        return true;
    }
    struct running *list;
    size_t n = scan(&list);
    long alive = 1;
    for (size_t i = 0; i < n; i++)
        if (list[i].ours) alive += list[i].threads;
    scanned = now_us();
    estimate = alive;
    return alive >= settings.pids;
}

void enforce_memory(void) {
    struct running *list;
    size_t n = scan(&list), largest = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (!list[i].ours) continue;
        total += (uint64_t)list[i].pages * (uint64_t)sysconf(_SC_PAGESIZE);
        if (list[i].pages > list[largest].pages || !list[largest].ours) largest = i;
    }
    if (n && total > settings.memory) kill(list[largest].pid, SIGKILL);
}

unsigned long ticks_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    long hz = sysconf(_SC_CLK_TCK);
    return (unsigned long)(t.tv_sec * hz + t.tv_nsec / (1000000000 / hz));
}
