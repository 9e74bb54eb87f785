/* The agent's bash: started on the terminal, fed through a private pipe, one command at a time.
 *
 * A command goes as `eval -- $'...'`, octal-escaped, so that no text can end it early. Behind it goes a redirection that
 * fails by construction, from a file named after a one-time number and `$?`: bash complains on stderr, the supervisor
 * swallows the complaint and knows the status. Only grammar, no builtin: no function or alias of the agent is
 * in the way. A complaint ends the command only once the shell is seen to wait for its next line; so a forged one, by a
 * command that read its own end marker off the pipe, ends nothing. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

pid_t shell_pid = -1;
bool shell_ready;
uint64_t shell_begun;
int listeners[MAX_LISTENERS];
int listener_count;

static int script = -1, script_end = -1; /* both ends of the pipe; the reading one only to see if it is empty */
static struct buffer waiting;             /* lines that the pipe has no room for yet */
static int pristine_bash = -1;
static char nonce[17];
static bool marked, traced, errexit;
static int status;
static uint64_t line_buffer; /* where bash reads its script into: the sign that the main loop reads */
static char directory[PATH_MAX] = "/";

static const char *environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=dumb", "LANG=C.UTF-8", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "PAGER=cat",
    "DEBIAN_FRONTEND=noninteractive", NULL, NULL};

void keep_pristine_bash(void) {
    pristine_bash = open("/bin/bash", O_RDONLY | O_CLOEXEC);
    if (pristine_bash < 0) die("/bin/bash");
}

static void send_descriptor(int socket, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    if (sendmsg(socket, &m, 0) < 0) _exit(125);
}

static int receive_descriptor(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(socket, &m, MSG_CMSG_CLOEXEC) <= 0 || !CMSG_FIRSTHDR(&m)) return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* What the supervisor needs and the agent must not have: reading other processes, changing bounding sets. */
static void drop_capabilities(void) {
    prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0);
    prctl(PR_CAPBSET_DROP, CAP_SETPCAP, 0, 0, 0);
    if (settings.pid_one)
        for (int c = 0; c <= 63; c++) {
            const uint64_t keep = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_SETUID |
                                  1ull << CAP_SETGID | 1ull << CAP_KILL;
            if (!(keep >> c & 1)) prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
        }
    if (!settings.pid_one) return;
    /* Root's exec would take back all that the bounding set leaves: this is for the moments before it. */
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2];
    if (syscall(SYS_capget, &head, caps)) _exit(125);
    uint32_t keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;
    for (int i = 0; i < 2; i++) {
        uint32_t mask = i ? 0 : keep;
        caps[i].effective &= mask;
        caps[i].permitted &= mask;
        caps[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &head, caps)) _exit(125);
}

static _Noreturn void become_shell(int lines, int back, bool pristine) {
    char *arguments[] = {"bash", "--norc", "--noprofile", "/dev/fd/10", NULL};
    setsid();
    /* stderr is a second opening of the same terminal, marked with O_APPEND: trace.c tells its copies by that. */
    int in = ioctl(terminal_master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    int err = ioctl(terminal_master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_APPEND);
    if (in < 0 || err < 0) _exit(125);
    ioctl(in, TIOCSCTTY, 0);
    dup2(in, 0);
    dup2(in, 1);
    dup2(err, 2);
    if (in > 2) close(in);
    if (err > 2) close(err);
    dup2(lines, 10);
    drop_capabilities();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
    const struct rlimit none_dumped = {0, 0}, files = {1024, 1024}, data = {settings.memory, settings.memory};
    setrlimit(RLIMIT_CORE, &none_dumped);
    setrlimit(RLIMIT_NOFILE, &files);
    if (settings.memory) setrlimit(RLIMIT_DATA, &data);
    if (chdir(directory) && chdir(settings.home) && chdir("/")) _exit(125);
    char home[PATH_MAX + 8];
    snprintf(home, sizeof home, "HOME=%s", settings.home);
    for (size_t i = 0; i < sizeof environment / sizeof *environment - 1; i++)
        if (!environment[i]) {
            environment[i] = home;
            break;
        }
    int listener = filter_install();
    if (listener < 0) _exit(125);
    send_descriptor(back, listener);
    close(listener);
    if (!pristine) execve("/bin/bash", arguments, (char *const *)environment);
    syscall(SYS_execveat, pristine_bash, "", arguments, environment, AT_EMPTY_PATH);
    _exit(127);
}

void shell_feed(void) {
    while (waiting.end > waiting.start) {
        ssize_t put = write(script, waiting.data + waiting.start, waiting.end - waiting.start);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return; /* full, or the shell is gone: its death will be reported */
        waiting.start += (size_t)put;
    }
}

bool shell_feed_waits(void) { return waiting.end > waiting.start; }

static void send_marker(void) {
    uint64_t random;
    char line[128];
    if (getrandom(&random, sizeof random, 0) != sizeof random) die("getrandom");
    snprintf(nonce, sizeof nonce, "%016llx", (unsigned long long)random);
    marked = false;
    /* The comment: after a string that never ends, bash's parser stumbles over one more token. `!` keeps errexit and
     * the ERR trap out of it. */
    int n = snprintf(line, sizeof line, "#END:%s:$?\n! ((0))<$'\\036'END:%s:$?:$-\n", nonce, nonce);
    buffer_add(&waiting, line, (size_t)n);
    shell_feed();
}

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6; Debian 12's headers are older than the kernels that run it */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

static void listen_to(int listener) {
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); /* hand over the processor at once */
    if (listener_count == MAX_LISTENERS) {
        close(listeners[0]);
        memmove(listeners, listeners + 1, sizeof *listeners * (MAX_LISTENERS - 1));
        listener_count--;
    }
    listeners[listener_count++] = listener;
}

void shell_start(bool pristine, const char *where) {
    int lines[2], back[2];
    if (where) snprintf(directory, sizeof directory, "%s", where);
    if (pipe2(lines, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, back)) die("pipe");
    if (script >= 0) close(script);
    if (script_end >= 0) close(script_end);
    fcntl(lines[1], F_SETFL, O_NONBLOCK); /* a full pipe must not stop the supervisor: bash may wait for it */
    waiting.start = waiting.end = 0;
    script = lines[1];
    script_end = lines[0];
    shell_ready = traced = errexit = false;
    line_buffer = 0;
    status = 0;
    shell_begun = now_us();
    while ((shell_pid = fork()) < 0) { /* no room for another process: the agent's own have taken it all */
        if (errno != EAGAIN || !greeted) die("fork");
        kill_everything();
    }
    if (!shell_pid) become_shell(lines[0], back[1], pristine);
    close(back[1]);
    const struct timeval patience = {greeted ? 2 : 20, 0}; /* the agent may stop the child on its way */
    setsockopt(back[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int listener = receive_descriptor(back[0]);
    close(back[0]);
    if (listener < 0) {
        if (!greeted) die("seccomp: user notification refused");
        kill(shell_pid, SIGKILL); /* its death counts as a failed start */
        return;
    }
    listen_to(listener);
    static const char first[] = "exec 10<&-; BASH_ARGV0=bash; unset OLDPWD; shopt -s expand_aliases\n";
    buffer_add(&waiting, first, sizeof first - 1);
    send_marker();
}

void shell_run(const unsigned char *text, size_t n) {
    if (!traced || trace_spoilt) {
        static const char on[] = "PS4=$'\\036X$?:${#BASH_LINENO[@]}:';\\set -x\n";
        buffer_add(&waiting, on, sizeof on - 1);
    }
    trace_spoilt = false;
    trace_ours = true;
    char before[48];
    if (status != 1 && !(status && errexit)) { /* `$?` as the last command left it; the marker left 1 */
        int k = snprintf(before, sizeof before, status ? "(\\exit %d);" : "((1));", status);
        buffer_add(&waiting, before, (size_t)k);
    }
    buffer_add(&waiting, "\\eval -- $'", 11); /* the backslash keeps aliases out */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = text[i];
        char octal[5];
        if ((c >= ' ' && c < 127 && c != '\'' && c != '\\')) {
            buffer_add(&waiting, &c, 1);
        } else if (c) { /* a zero byte cannot be part of a command line */
            snprintf(octal, sizeof octal, "\\%03o", c);
            buffer_add(&waiting, octal, 4);
        }
    }
    buffer_add(&waiting, "'\n", 2);
    send_marker();
}

bool shell_marker(const unsigned char *bytes, size_t n) {
    char mark[32];
    int length = snprintf(mark, sizeof mark, "\036END:%s:", nonce);
    const unsigned char *at = *nonce ? memmem(bytes, n, mark, (size_t)length) : NULL;
    if (!at) return false;
    char rest[32] = "";
    at += length;
    size_t left = n - (size_t)(at - bytes);
    memcpy(rest, at, left < sizeof rest - 1 ? left : sizeof rest - 1);
    char *flags;
    status = (int)strtol(rest, &flags, 10);
    flags += *flags == ':';
    flags[strcspn(flags, ": ")] = 0;
    traced = strchr(flags, 'x') != NULL;
    errexit = strchr(flags, 'e') != NULL;
    if (!traced) trace_visible = false;
    marked = true;
    return true;
}

/* Whether the shell sits in the read of its main loop: same call, same buffer as before the agent's first command. */
static bool waits_for_line(void) {
    char path[40], state[256];
    int pending = 0;
    if (shell_feed_waits() || ioctl(script_end, FIONREAD, &pending) || pending) return false;
    snprintf(path, sizeof path, "/proc/%d/syscall", shell_pid);
    if (slurp(path, state, sizeof state) <= 0) return false;
    long number;
    unsigned long where, buffer, count;
    if (sscanf(state, "%ld %lx %lx %lx", &number, &where, &buffer, &count) != 4) return false;
    if (number != SYS_read || count != 1) return false;
    if (!line_buffer) line_buffer = buffer;
    return buffer == line_buffer;
}

bool shell_echo(const unsigned char *bytes, size_t n) {
    char mark[32];
    int length = snprintf(mark, sizeof mark, "END:%s:$?", nonce);
    if (*nonce && memmem(bytes, n, mark, (size_t)length)) return true;
    if (!trace_ours) return false;
    return memmem(bytes, n < 24 ? n : 24, "\\eval -- $'", 11) || memmem(bytes, n, "X$?:${#BASH_LINENO[@]}:", 23);
}

bool shell_marked(void) { return marked; }

bool shell_finished(void) { return marked && waits_for_line(); }

void shell_remind(void) {
    if (!marked && line_buffer && waits_for_line()) send_marker();
}

int shell_status(void) { return status; }

void shell_directory(char *path, size_t n) {
    char link[40], real[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/cwd", shell_pid);
    ssize_t k = readlink(link, real, sizeof real - 1);
    if (k > 0) {
        real[k] = 0;
        snprintf(directory, sizeof directory, "%s", real);
    }
    snprintf(path, n, "%s", directory);
}

void shell_died(void) {
    marked = false;
    *nonce = 0;
}

/* F frames: what the shell's descriptors 0 to 9 lead to, for a snapshot. */
void shell_redirections(void) {
    for (int fd = 0; fd < 10; fd++) {
        char path[48], where[PATH_MAX], info[256];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", shell_pid, fd);
        ssize_t n = readlink(path, where, sizeof where);
        if (n < 0 && fd > 2) continue;
        struct stat st;
        bool terminal = n >= 0 && !stat(path, &st) && S_ISCHR(st.st_mode) && st.st_rdev == terminal_device;
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", shell_pid, fd);
        slurp(path, info, sizeof info);
        const char *flags = strstr(info, "flags:");
        frame_open(&out, 'F');
        put_u32(&out, (uint32_t)fd);
        put_u32(&out, flags ? (uint32_t)strtoul(flags + 6, NULL, 8) : 0);
        put_u8(&out, n < 0 ? 0 : terminal ? 1 : 2);
        if (n > 0) buffer_add(&out, where, (size_t)n);
        frame_close(&out);
    }
}
