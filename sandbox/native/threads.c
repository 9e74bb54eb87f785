/* Who is who in the box: threads, their processes, and which of them are forks of our shell. */
#include "threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proc.h"

#define SLOTS 8192u
static struct thread table[SLOTS];
static unsigned used;
unsigned long threads_shell_stack;

static struct thread *slot(pid_t tid) {
    unsigned i = (unsigned)tid * 2654435761u % SLOTS;
    while (table[i].tid && table[i].tid != tid) i = (i + 1) % SLOTS;
    return &table[i];
}

/* Rebuilds the table with the threads that still live. */
static void sweep(void) {
    static struct thread old[SLOTS];
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

struct thread *thread_of(pid_t tid, bool *first) {
    struct thread *t = slot(tid);
    *first = !t->tid;
    if (!*first) return t;
    char line[1024];
    if (proc_read(line, sizeof line, "/proc/%d/status", tid) <= 0) return NULL;
    const char *group = strstr(line, "\nTgid:"), *parent = strstr(line, "\nPPid:");
    if (!group || !parent) return NULL;
    if (used > SLOTS * 3 / 4) {
        sweep();
        t = slot(tid);
    }
    *t = (struct thread){.tid = tid, .pid = (pid_t)atol(group + 6), .parent = (pid_t)atol(parent + 6)};
    used++;
    const struct thread *from = slot(t->pid != tid ? t->pid : t->parent);
    if (from->tid) {
        t->copies = from->copies;
        t->saved = from->saved;
    }
    /* Not from the parent's entry: it may have exec'd since it forked this one. */
    t->shell = threads_shell_stack && proc_stack(t->pid) == threads_shell_stack;
    return t;
}

/* Open addressing: taking an entry out would break the chains, so only its claims are taken back. */
void thread_gone(pid_t pid) {
    struct thread *t = slot(pid);
    if (!t->tid) return;
    t->shell = false;
    t->copies = 0;
    t->saved = 0;
}
