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
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host.h"
#include "settings.h"

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

static void make_devices(void) {
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=64"), "mount /dev");
    static const char *const names[] = {"null", "zero", "full", "random", "urandom", "tty"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char inside[32], outside[32];
        snprintf(inside, sizeof inside, "dev/%s", names[i]);
        snprintf(outside, sizeof outside, "/dev/%s", names[i]);
        int fd = open(inside, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
        must(fd, inside);
        close(fd);
        must(mount(outside, inside, NULL, MS_BIND, NULL), inside);
    }
    must(mkdir("dev/pts", 0755), "/dev/pts");
    must(mkdir("dev/shm", 01777), "/dev/shm");
    chmod("dev/shm", 01777);
    const char *pts = "newinstance,ptmxmode=0666,mode=620,max=64";
    must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, pts), "mount /dev/pts");
    must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=16m"), "mount /dev/shm");
    must(symlink("pts/ptmx", "dev/ptmx"), "/dev/ptmx");
    must(symlink("/proc/self/fd", "dev/fd"), "/dev/fd");
    must(symlink("/proc/self/fd/0", "dev/stdin"), "/dev/stdin");
    must(symlink("/proc/self/fd/1", "dev/stdout"), "/dev/stdout");
    must(symlink("/proc/self/fd/2", "dev/stderr"), "/dev/stderr");
}

/* Root without capabilities still owns /proc/sys: a writable core_pattern would be a way out. */
static void guard_proc(void) {
    static const char *const read_only[] = {"proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus", "proc/fs"};
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        if (access(read_only[i], F_OK)) continue;
        must(mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL), read_only[i]);
        const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
        must(mount(NULL, read_only[i], NULL, flags, NULL), read_only[i]);
    }
    static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/kmsg", "proc/sched_debug"};
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        if (!access(masked[i], F_OK)) must(mount("/dev/null", masked[i], NULL, MS_BIND, NULL), masked[i]);
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
    int first_to_go = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); /* when the host runs out of memory */
    if (first_to_go >= 0) {
        if (write(first_to_go, "1000", 4) < 0) errno = 0; /* a wish, no need */
        close(first_to_go);
    }
    uid_t uid = getuid();
    gid_t gid = getgid();
    bool user = uid != 0;
    settings.fake_owners = user;
    const int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    must(unshare(user ? namespaces | CLONE_NEWUSER : namespaces), "unshare");
    if (user) become_root_of_user_namespace(uid, gid);
    else setgroups(0, NULL);
    build_root(settings.root, settings.disk);
    pid_t pid = fork();
    must(pid, "fork");
    if (pid) {
        signal(SIGINT, SIG_IGN); /* Ctrl-C is for the host: it closes its boxes in its own order */
        int status;
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the launcher has one thread: its death is the box's */
    if (setsid() < 0) fail("setsid");
    must(sethostname("box", 3), "hostname");
    move_in();
    if (!user) keep_few_capabilities();
}
