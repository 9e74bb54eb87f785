/* What the kernel counts by user or not at all, and so must be dealt out by us: so much for each box.
 *
 * inotify instances and watches are counted by user: a box that runs as root would use up root's. Shared memory without
 * a name belongs to nobody once it is unmapped. Neither can be seen to be given back, as descriptors hide in sockets
 * and pages behind mappings: what is taken stays taken, until nothing runs any more. */
#include "budgets.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "settings.h"

#define INSTANCES 8u /* of inotify; root has 128 of them on a host */
#define WATCHES 1024u

static uint64_t instances, watches, shared;

void budgets_renew(void) { instances = watches = shared = 0; }

static int take(uint64_t *taken, uint64_t n, uint64_t of, int error) {
    if (n > of || *taken > of - n) return error;
    *taken += n;
    return 0;
}

/* `MAP_ANONYMOUS`, or a mapping of /dev/zero, which is the same. */
static bool nameless(const struct seccomp_notif *r) {
    if (r->data.args[3] & MAP_ANONYMOUS) return true;
    char path[48];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", r->pid, (int)r->data.args[4]);
    return !stat(path, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5);
}

int budget_spend(const struct seccomp_notif *r) {
    switch (r->data.nr) {
    case SYS_mmap:
        return nameless(r) ? take(&shared, r->data.args[1], settings.memory, ENOMEM) : 0;
    case SYS_inotify_add_watch:
        return take(&watches, 1, WATCHES, ENOSPC);
    default:
        return take(&instances, 1, INSTANCES, EMFILE);
    }
}
