/* `supervisor box`: a container without a daemon, as root or as an ordinary user.
 *
 * New namespaces, an overlay of the root file system under a tmpfs of limited size, pivot_root; then this very program
 * goes on as PID 1. The launcher stays behind only to hand on the exit status. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cgroup.h"
#include "host.h"
#include "settings.h"

#define SLACK (32u << 20) /* /dev/shm, and what the kernel holds for the box */
#define OUT_OF_MEMORY 5   /* the exit status that says so */

/* Errors go to the host as a frame: "what: why". */
static _Noreturn void fail(const char *what) {
    int error = errno;
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%s: %s", what, strerror(error));
    host_error(error, text);
    host_flush();
    _exit(4);
}

static void must(long result, const char *what) {
    if (result < 0) fail(what);
}

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(path);
    close(fd);
}

static void become_root_of_user_namespace(uid_t uid, gid_t gid) {
    char map[64];
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1\n", uid);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1\n", gid);
    write_file("/proc/self/gid_map", map);
}

/* A node of the box's own where root may make one. Elsewhere the host's, on a read-only mount: the node, its mode and
 * its times cannot be changed, and the device can be written all the same. */
static void make_device(const char *name, unsigned major, unsigned minor) {
    char inside[32], outside[32];
    snprintf(inside, sizeof inside, "dev/%s", name);
    snprintf(outside, sizeof outside, "/dev/%s", name);
    if (!mknod(inside, S_IFCHR | 0666, makedev(major, minor))) {
        int fd = open(inside, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0 || errno == ENXIO) { /* /dev/tty, where there is none yet */
            if (fd >= 0) close(fd);
            must(chmod(inside, 0666), inside);
            return;
        }
        unlink(inside); /* in a container that may not open what it may make */
    }
    int fd = open(inside, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    must(fd, inside);
    close(fd);
    must(mount(outside, inside, NULL, MS_BIND, NULL), inside);
    must(mount(NULL, inside, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL), inside);
}

static void make_devices(void) {
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=64"), "mount /dev");
    make_device("null", 1, 3);
    make_device("zero", 1, 5);
    make_device("full", 1, 7);
    make_device("random", 1, 8);
    make_device("urandom", 1, 9);
    make_device("tty", 5, 0);
    must(mkdir("dev/pts", 0755), "/dev/pts");
    must(mkdir("dev/shm", 01777), "/dev/shm");
    chmod("dev/shm", 01777);
    const char *pts = "newinstance,ptmxmode=0666,mode=620,max=16"; /* the host has some 3000 for all */
    must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, pts), "mount /dev/pts");
    must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=16m"), "mount /dev/shm");
    must(symlink("pts/ptmx", "dev/ptmx"), "/dev/ptmx");
    must(symlink("/proc/self/fd", "dev/fd"), "/dev/fd");
    must(symlink("/proc/self/fd/0", "dev/stdin"), "/dev/stdin");
    must(symlink("/proc/self/fd/1", "dev/stdout"), "/dev/stdout");
    must(symlink("/proc/self/fd/2", "dev/stderr"), "/dev/stderr");
}

/* Most of /proc is the host's, and root without capabilities still owns it: a writable core_pattern would be a way out,
 * a chmod of /proc/meminfo holds for everybody, and `oom_score_adj` says who dies first. So all of it is read-only to
 * the agent. Ours lies below. */
static void guard_proc(void) {
    settings.proc = open("proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(settings.proc, "/proc");
    must(mount("proc", "proc", NULL, MS_BIND, NULL), "bind /proc");
    const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    must(mount(NULL, "proc", NULL, flags, NULL), "read-only /proc");
    static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/kmsg", "proc/sched_debug"};
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        if (!access(masked[i], F_OK)) must(mount("dev/null", masked[i], NULL, MS_BIND, NULL), masked[i]);
}

static void keep_few_capabilities(void) {
    const uint64_t keep = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_SETUID |
                          1ull << CAP_SETGID | 1ull << CAP_KILL | 1ull << CAP_SETPCAP | 1ull << CAP_SYS_PTRACE;
    for (int c = 0; c < 64; c++)
        if (!(keep >> c & 1)) prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{(uint32_t)keep, (uint32_t)keep, 0}, {0, 0, 0}};
    must(syscall(SYS_capset, &head, caps), "capset");
}

static void build_root(const char *root, uint64_t disk) {
    char options[256];
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    /* The tmpfs goes on top of the root file system's own directory, which needs no other place on the host; what lies
     * below stays reachable through this descriptor. */
    int lower = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(lower, root);
    snprintf(options, sizeof options, "size=%llu,mode=755,nr_inodes=200000", (unsigned long long)disk);
    must(mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, options), "mount tmpfs");
    must(chdir(root), root);
    must(mkdir("upper", 0755), "upper");
    must(mkdir("work", 0755), "work");
    must(mkdir("root", 0755), "root");
    /* The overlay keeps its marks in user.* attributes; tmpfs holds them since Linux 6.6. */
    if (setxattr("upper", "user.devnull", "1", 1, 0)) fail("user attributes on tmpfs (Linux 6.6 or newer is needed)");
    removexattr("upper", "user.devnull");
    settings.upper = open("upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(settings.upper, "upper");
    snprintf(options, sizeof options, "userxattr,lowerdir=/proc/self/fd/%d,upperdir=upper,workdir=work", lower);
    must(mount("overlay", "root", "overlay", MS_NODEV, options), "mount overlay");
    close(lower);
}

static void move_in(void) {
    must(chdir("root"), "root");
    must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount /proc");
    make_devices();
    guard_proc();
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "unmount the old root"); /* stacked on top of the new one */
    must(chdir("/"), "/");
}

void box_enter(void) {
    errno = EINVAL;
    if (!settings.root) fail("--root wants a directory");
    /* When memory runs out, what the agent runs goes first (shell.c), then the box, then the host's own. */
    int order = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (order >= 0) {
        if (write(order, "500", 3) < 0) errno = 0; /* a wish, no need */
        close(order);
    }
    cgroup_make(settings.memory + settings.disk + SLACK);
    uid_t uid = getuid();
    gid_t gid = getgid();
    bool user = uid != 0;
    settings.fake_owners = user;
    const int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    must(unshare(user ? namespaces | CLONE_NEWUSER : namespaces), "unshare");
    if (user) become_root_of_user_namespace(uid, gid);
    else setgroups(0, NULL);
    build_root(settings.root, settings.disk);
    pid_t pid = cgroup_fork();
    must(pid, "fork");
    if (pid) {
        signal(SIGINT, SIG_IGN); /* Ctrl-C is for the host: it closes its boxes in its own order */
        int status;
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        bool killed = cgroup_remove();
        if (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) _exit(OUT_OF_MEMORY);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the launcher has one thread: its death is the box's */
    if (setsid() < 0) fail("setsid");
    must(sethostname("box", 3), "hostname");
    move_in();
    if (!user) keep_few_capabilities();
}
