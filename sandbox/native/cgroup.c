/* A memory cgroup (version 2) for one rootless box, where the host lets us make one.
 *
 * It bounds what counting processes cannot: shared memory that nobody maps, sockets, pipes, locks, inodes. A process is
 * born into it, since moving one in waits for all processors (10 ms, where a box starts in 6): version 1 can do no
 * better, and is left alone. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"

static int above = -1, folder = -1; /* kept open: pivot_root moves the launcher's root, too */
static char ours[32];

static bool put(const char *name, const char *text) {
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool done = write(fd, text, strlen(text)) > 0;
    close(fd);
    return done;
}

void cgroup_make(uint64_t bytes) {
    if (!settings.cgroup || !settings.memory) return;
    char limit[24];
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)bytes);
    snprintf(ours, sizeof ours, "devnull-%d", getpid());
    above = open(settings.cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unlinkat(above, ours, AT_REMOVEDIR); /* left by a process of that number that was killed */
    if (mkdirat(above, ours, 0755)) return;
    folder = openat(above, ours, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (put("memory.max", limit)) put("memory.swap.max", "0");
    else cgroup_remove();
}

pid_t cgroup_fork(void) {
    if (folder >= 0) {
        struct clone_args how = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)folder};
        long pid = syscall(SYS_clone3, &how, sizeof how);
        settings.walled = pid == 0;
        if (pid >= 0) return (pid_t)pid;
        cgroup_remove(); /* this kernel, or a container around us, does not let us */
    }
    return fork();
}

bool cgroup_remove(void) {
    if (folder < 0) return false;
    char events[512];
    int fd = openat(folder, "memory.events", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, events, sizeof events - 1);
    if (fd >= 0) close(fd);
    events[n > 0 ? n : 0] = 0;
    const char *limit = strstr(events, "oom "), *killed = strstr(events, "oom_kill ");
    close(folder);
    folder = -1;
    /* The last of them may be on its way out. */
    for (int i = 0; unlinkat(above, ours, AT_REMOVEDIR) && errno == EBUSY && i < 50; i++) usleep(200);
    /* By its own limit: the host's want of memory counts as `oom_kill` only. */
    return limit && strtoul(limit + 4, NULL, 10) && killed && strtoul(killed + 9, NULL, 10);
}
