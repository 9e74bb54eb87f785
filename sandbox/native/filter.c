/* The seccomp filter of everything the agent runs: which system calls the supervisor hears of. */
#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "host.h"
#include "settings.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the supervisor knows the system calls of x86_64 and aarch64 only"
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#ifndef SYS_memfd_secret /* Linux 5.14; the same number everywhere */
#define SYS_memfd_secret 447
#endif

#define DENY(e) (SECCOMP_RET_ERRNO | ((e) & SECCOMP_RET_DATA))
#define NAMESPACES                                                                                          \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static struct sock_filter program[512];
static unsigned short length;

static void add(unsigned short code, uint32_t k, uint8_t yes, uint8_t no) {
    if (length >= sizeof program / sizeof *program) die("filter too long");
    program[length++] = (struct sock_filter){code, yes, no, k};
}

static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }

static void answer(long number, uint32_t action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1);
    add(BPF_RET | BPF_K, action, 0, 0);
}

/* Notify when argument `index` of system call `number` lies in [low, high]. The number is in the accumulator. */
static void notify_between(long number, int index, uint32_t low, uint32_t high) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 5);
    load(offsetof(struct seccomp_data, args) + 8 * (size_t)index);
    add(BPF_JMP | BPF_JGT | BPF_K, high, 2, 0);
    add(BPF_JMP | BPF_JGE | BPF_K, low, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

/* Notify when fcntl asks for a copy of a descriptor from 0 or 1 on. */
static void notify_low_copies(void) {
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 7);
    load(offsetof(struct seccomp_data, args) + 8);
    add(BPF_JMP | BPF_JEQ | BPF_K, F_DUPFD, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, F_DUPFD_CLOEXEC, 0, 3);
    load(offsetof(struct seccomp_data, args) + 16);
    add(BPF_JMP | BPF_JGT | BPF_K, 1, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

/* A fixed answer when argument `index` of system call `number` is `value`. */
static void answer_value(long number, int index, uint32_t value, uint32_t action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4);
    load(offsetof(struct seccomp_data, args) + 8 * (size_t)index);
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    add(BPF_RET | BPF_K, action, 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

/* Notify when argument `index` of system call `number` has any of `bits`. */
static void notify_bits(long number, int index, uint32_t bits) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4);
    load(offsetof(struct seccomp_data, args) + 8 * (size_t)index);
    add(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

/* A fixed answer to a socket of `family` unless its protocol is one of the n `allowed`. */
static void socket_protocols(uint32_t family, const uint32_t *allowed, uint8_t n, uint32_t action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, family, 0, (uint8_t)(n + 3)); /* the family is in the accumulator */
    load(offsetof(struct seccomp_data, args) + 16);
    for (uint8_t i = 0; i < n; i++) add(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(n - i), 0);
    add(BPF_RET | BPF_K, action, 0, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* Sockets of the box itself and of its network namespace. Any other family reaches past that (AF_VSOCK: the hypervisor)
 * or has the kernel load and run what no installation needs; so do the rarer protocols. */
static void sockets_of(long number) {
    static const uint32_t internet[] = {0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6}, routes[] = {0};
    unsigned short otherwise = length;
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 0);
    load(offsetof(struct seccomp_data, args));
    add(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    socket_protocols(AF_INET, internet, 5, DENY(EPROTONOSUPPORT));
    socket_protocols(AF_INET6, internet, 5, DENY(EPROTONOSUPPORT));
    socket_protocols(AF_NETLINK, routes, 1, DENY(EPROTONOSUPPORT));
    add(BPF_RET | BPF_K, DENY(EAFNOSUPPORT), 0, 0);
    program[otherwise].jf = (uint8_t)(length - otherwise - 1);
}

/* No buffer of a socket's own size: as if it were as large as it may be. */
static void keep_buffer_sizes(void) {
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 7);
    load(offsetof(struct seccomp_data, args) + 8);
    add(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 4);
    load(offsetof(struct seccomp_data, args) + 16);
    add(BPF_JMP | BPF_JEQ | BPF_K, SO_SNDBUF, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, SO_RCVBUF, 0, 1);
    add(BPF_RET | BPF_K, DENY(0), 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

static void build(void) {
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    add(BPF_RET | BPF_K, DENY(ENOSYS), 0, 0); /* no side door through the 32-bit calls */
    load(offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1); /* nor through x32 */
    add(BPF_RET | BPF_K, DENY(ENOSYS), 0, 0);
#endif
    /* What writes to 1 or 2. Descriptor 1 matters because `>&2` makes it a copy of stderr. */
    static const long writes[] = {SYS_write,  SYS_writev,  SYS_pwrite64, SYS_pwritev,  SYS_pwritev2,
                                  SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_sendfile, SYS_vmsplice};
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) notify_between(writes[i], 0, 1, 2);
    notify_between(SYS_tee, 1, 1, 2);
    notify_between(SYS_splice, 2, 1, 2);
    notify_between(SYS_copy_file_range, 2, 1, 2);
    notify_between(SYS_write, 0, TRACE_FD, TRACE_FD);
    notify_between(SYS_fcntl, 0, TRACE_FD, TRACE_FD);
    /* What moves descriptors onto 1, to know whose copy it is; dup and fcntl do where 1 is closed. */
    answer(SYS_dup, SECCOMP_RET_USER_NOTIF);
    notify_low_copies();
    notify_between(SYS_dup3, 1, 1, 1);
#ifdef SYS_dup2
    notify_between(SYS_dup2, 1, 1, 1);
#endif
    answer(SYS_execve, SECCOMP_RET_USER_NOTIF);
    answer(SYS_execveat, SECCOMP_RET_USER_NOTIF);
    answer(SYS_exit_group, SECCOMP_RET_USER_NOTIF);
    answer(SYS_exit, SECCOMP_RET_USER_NOTIF);

    /* New namespaces would give the agent capabilities to build a world of its own in. As Docker does,
     * clone3 is unknown, since a filter cannot read its flags; libc then falls back to clone. */
    answer(SYS_clone3, DENY(ENOSYS));
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
    load(offsetof(struct seccomp_data, args));
    add(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
    add(BPF_RET | BPF_K, DENY(EPERM), 0, 0);
    load(offsetof(struct seccomp_data, nr));
    static const long denied[] = {SYS_unshare,         SYS_setns,        SYS_mount,         SYS_umount2,
                                  SYS_pivot_root,      SYS_open_tree,    SYS_move_mount,    SYS_fsopen,
                                  SYS_fsconfig,        SYS_fsmount,      SYS_fspick,        SYS_mount_setattr,
                                  SYS_bpf,             SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl,
                                  SYS_add_key,         SYS_request_key,  SYS_kexec_load,    SYS_init_module,
                                  SYS_finit_module,    SYS_delete_module, SYS_open_by_handle_at, SYS_fanotify_init,
                                  SYS_syslog};
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) answer(denied[i], DENY(EPERM));
    /* Writes through a ring, or submitted in bulk, make no system call to hear of. */
    answer(SYS_io_uring_setup, DENY(ENOSYS));
    answer(SYS_io_setup, DENY(ENOSYS));
    /* A filter of the agent's own that refuses a write would have the last word, and the write would not be heard of.
     * These are the answers of a kernel without seccomp, which programs with a sandbox of their own put up with. */
    answer(SYS_seccomp, DENY(ENOSYS));
    answer_value(SYS_prctl, 0, PR_SET_SECCOMP, DENY(EINVAL));
    /* Another line discipline would silence the terminal for good; a flush would drop what was written to it. */
    answer_value(SYS_ioctl, 1, TIOCSETD, DENY(EPERM));
    answer_value(SYS_ioctl, 1, TCFLSH, DENY(0));
    /* Root may lower the limits of any process of root: without descriptors or time, the supervisor would be no
     * more. */
    answer_value(SYS_prlimit64, 0, (uint32_t)getppid(), DENY(EPERM));
    sockets_of(SYS_socket);
    sockets_of(SYS_socketpair);
    /* What the kernel counts by user, or not at all (budgets.c). */
    answer(SYS_inotify_init1, SECCOMP_RET_USER_NOTIF);
    answer(SYS_inotify_add_watch, SECCOMP_RET_USER_NOTIF);
#ifdef SYS_inotify_init
    answer(SYS_inotify_init, SECCOMP_RET_USER_NOTIF);
#endif
    /* Memory that no process holds: none can be killed to have it back. */
    answer(SYS_shmget, DENY(ENOSYS));
    answer(SYS_msgget, DENY(ENOSYS));
    answer(SYS_semget, DENY(ENOSYS));
    answer(SYS_mq_open, DENY(ENOSYS));
    answer(SYS_memfd_secret, DENY(ENOSYS));
    if (settings.memory) answer(SYS_memfd_create, DENY(ENOSYS)); /* nor does anybody count this one */
    if (settings.memory && !settings.walled) {
        notify_bits(SYS_mmap, 3, MAP_SHARED);
        /* A socket holds no more than it does by default, so that their number says how much they hold at most. */
        keep_buffer_sizes();
    }
    if (settings.pids) {
        answer(SYS_clone, SECCOMP_RET_USER_NOTIF);
#ifdef SYS_fork
        answer(SYS_fork, SECCOMP_RET_USER_NOTIF);
        answer(SYS_vfork, SECCOMP_RET_USER_NOTIF);
#endif
    }
    if (settings.fake_owners) {
        static const long faked[] = {SYS_fchown,    SYS_fchownat,  SYS_setgroups, SYS_setuid,   SYS_setgid,
                                     SYS_setreuid,  SYS_setregid,  SYS_setresuid, SYS_setresgid, SYS_setfsuid,
                                     SYS_setfsgid,  SYS_mknodat,   SYS_capset,
#ifdef SYS_chown
                                     SYS_chown,     SYS_lchown,
#endif
        };
        for (size_t i = 0; i < sizeof faked / sizeof *faked; i++) answer(faked[i], DENY(0));
    }
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

int filter_install(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    build();
    struct sock_fprog fprog = {length, program};
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    /* Without it (before Linux 5.19) a signal restarts the call, and it is heard of twice. */
    const unsigned long better = flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, better, &fprog);
    if (listener < 0 && errno == EINVAL) listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog);
    return (int)listener;
}

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6; Debian 12's headers are older than the kernels that run it */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

int listeners[MAX_LISTENERS];
int listener_count;

void listeners_add(int listener) {
    /* Hand over the processor at once. */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    if (listener_count == MAX_LISTENERS) listeners_remove(0);
    listeners[listener_count++] = listener;
}

void listeners_remove(int index) {
    close(listeners[index]);
    listener_count--;
    memmove(listeners + index, listeners + index + 1, sizeof *listeners * (size_t)(listener_count - index));
}
