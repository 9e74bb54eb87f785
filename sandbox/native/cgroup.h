/* A memory cgroup (version 2) for one rootless box, where the host lets us make one. */
#ifndef CGROUP_H
#define CGROUP_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Makes one below `settings.cgroup`, into which no more than `bytes` fit. */
void cgroup_make(uint64_t bytes);
/* As fork; the child begins inside, and sets `settings.walled`. It is a plain fork where there is no cgroup. */
pid_t cgroup_fork(void);
/* Removes it, once everything in it has ended; returns whether the kernel killed any of it for want of memory. */
bool cgroup_remove(void);
#endif
