/* What the command line asks of the supervisor, and what it finds out about its place at the start. */
#ifndef SETTINGS_H
#define SETTINGS_H
#include <stdbool.h>
#include <stdint.h>

struct settings {
    bool pid_one;       /* alone in a pid namespace: may signal everything, may repair /etc/ld.so.preload */
    bool fake_owners;   /* one user id only: pretend that chown, setuid and mknod succeed */
    long pids;          /* most processes and threads in the box; 0: enforced elsewhere */
    uint64_t memory;    /* most resident bytes of all processes; 0: enforced elsewhere */
    uint64_t disk;      /* most bytes that a rootless box writes */
    const char *root;   /* the root file system of a rootless box */
    const char *cgroup; /* where it may make a memory cgroup of its own, or NULL */
    bool walled;        /* the kernel bounds all memory, its own for the box included */
    const char *home;   /* where the first shell starts, and $HOME */
    int upper;          /* the overlay's upper directory, or -1 */
    int proc;           /* a /proc that may be written, or -1: the agent's may not */
};
extern struct settings settings;

/* Reads `serve|box --NAME VALUE ...`; names it does not know are passed over. */
void settings_read(int argc, char **argv);
#endif
