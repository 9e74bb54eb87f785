/* The loop: frames from the host, notifications from what the agent runs, output of its terminal, deaths. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct settings settings = {.upper = -1, .home = "/root"};
struct buffer out;
struct command command;

static struct buffer in;
bool greeted;
static bool lost_shell;
static int failed_starts; /* of bash, one after the other */
static int patience;      /* steps taken against a command that is out of time */
static uint64_t deadline; /* of the command, then of each such step */
static struct limits limits = {1 << 20, 4 << 20};

#define STATUS_NONE 0xffffffffu
enum { FLAG_TIMED_OUT = 1, FLAG_SHELL_EXITED = 2 };

#define GIVEN_UP 5 /* failed starts */
#define START_US 5000000u /* a shell that takes longer to start never will: the agent put something else in its place */

/* The agent broke what bash needs: commands end with 127, as they would for a person. It is no failure of the box. */
static bool shell_broken(void) { return failed_starts >= GIVEN_UP; }

uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t command_us(void) { return command.running ? now_us() - command.started : 0; }

static _Noreturn void quit(int code) {
    if (!settings.pid_one) kill_everything(); /* the kernel does it for a pid namespace */
    _exit(code);
}

void host_flush(void) {
    while (out.end > out.start) {
        ssize_t n = write(STDOUT_FILENO, out.data + out.start, out.end - out.start);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) quit(0); /* the host is gone */
        out.start += (size_t)n;
    }
}

void host_error(int error, const char *what) {
    frame_open(&out, '!');
    put_u32(&out, (uint32_t)error);
    buffer_add(&out, what, strlen(what));
    frame_close(&out);
}

void die(const char *what) {
    host_error(errno, what);
    host_flush();
    quit(3);
}

static void done(bool shell_exited, uint32_t status) {
    char directory[PATH_MAX];
    /* A shell that was interrupted may end before the jobs it left in the background, which ignore interrupts. */
    for (int i = 0; command.timed_out && i < 30 && kill_since(command.since, shell_pid, SIGKILL); i++) usleep(500);
    terminal_sync();
    shell_directory(directory, sizeof directory);
    frame_open(&out, 'D');
    put_u32(&out, command.timed_out ? STATUS_NONE : status);
    put_u8(&out, (uint8_t)((command.timed_out ? FLAG_TIMED_OUT : 0) | (shell_exited || lost_shell ? FLAG_SHELL_EXITED : 0)));
    put_u64(&out, command.cut);
    put_u64(&out, command_us());
    buffer_add(&out, directory, strlen(directory));
    frame_close(&out);
    host_flush();
    command.running = lost_shell = command.timed_out = false;
    command.cut = 0;
    command.left = limits; /* for what runs on in the background until the next command */
    terminal_reset();
}

static void greet(void) {
    char text[80];
#ifdef __x86_64__
    const char *machine = "x86_64";
#else
    const char *machine = "aarch64";
#endif
    int n = snprintf(text, sizeof text, "devnull-supervisor %d %s", PROTOCOL, machine);
    frame_open(&out, 'H');
    buffer_add(&out, text, (size_t)n);
    frame_close(&out);
    host_flush();
    greeted = true;
}

/* The shell may have ended its command, or its own start. */
static void look_at_shell(bool patient) {
    for (useconds_t nap = 0; nap < 1000; nap += nap < 20 ? 1 : nap / 2) { /* it needs some microseconds to get there */
        if (shell_finished()) {
            shell_died(); /* forgets the marker: it has served */
            if (!shell_ready) {
                shell_ready = true;
                failed_starts = 0;
                shell_layout = process_layout(shell_pid);
                if (!greeted) greet();
            } else if (command.running) {
                done(false, (uint32_t)shell_status());
            }
            return;
        }
        if (!patient) return;
        if (nap < 20) sched_yield();
        else usleep(nap);
    }
}

static void run(struct reader *r, bool verify) {
    uint32_t milliseconds = read_u32(r);
    limits.shown = read_u32(r);
    limits.recorded = read_u32(r);
    uint32_t length = read_u32(r);
    const unsigned char *typed = read_bytes(r, length);
    if (r->bad) {
        host_error(EBADMSG, "run");
        host_flush();
        return;
    }
    command.left = limits;
    command.started = now_us();
    command.since = ticks_now();
    command.running = true;
    deadline = command.started + milliseconds * 1000ull;
    patience = 0;
    trace_visible = trace_visible && !verify;
    if (shell_broken()) {
        done(true, 127);
        return;
    }
    terminal_feed(typed, length);
    shell_run(r->at, read_left(r));
}

/* The agent is over: nothing of it may touch what follows. */
static void clean_slate(void) {
    kill_everything();
    while (listener_count) close(listeners[--listener_count]);
    if (settings.pid_one) unlink("/etc/ld.so.preload"); /* the image has none: it would speak for every program */
    terminal_open();
    failed_starts = 0;
    shell_start(true, settings.pid_one ? "/" : settings.home);
}

static struct buffer verdict; /* a verify request that waits for its clean shell */

static void request(char type, struct reader *r) {
    switch (type) {
    case 'R':
        run(r, false);
        return;
    case 'V':
        verdict.start = verdict.end = 0;
        buffer_add(&verdict, r->at, read_left(r));
        clean_slate();
        return;
    case 'G':
        file_get(r);
        break;
    case 'P':
        file_put(r);
        break;
    case 'S':
        kill_since(0, 0, SIGSTOP);
        shell_redirections();
        files_pack(r);
        kill_since(0, 0, SIGCONT);
        break;
    case 'U':
        files_unpack(r);
        break;
    case 'Q':
        quit(0);
    default:
        host_error(EBADMSG, "unknown frame");
    }
    host_flush();
}

static void host_speaks(void) {
    ssize_t n = read(STDIN_FILENO, buffer_room(&in, 1 << 16), 1 << 16);
    if (n <= 0) quit(0);
    in.end += (size_t)n;
}

static void serve_requests(void) {
    char type;
    struct reader r;
    while ((shell_ready || shell_broken()) && !command.running) {
        if (verdict.end) {
            r = (struct reader){verdict.data, verdict.data + verdict.end, false};
            verdict.end = 0;
            run(&r, true);
            return;
        }
        enum frame_state state = frame_next(&in, &type, &r);
        if (state == FRAME_MALFORMED) {
            host_error(EBADMSG, "frame too long");
            host_flush();
            quit(2);
        }
        if (state == FRAME_WANTS_MORE) return;
        request(type, &r);
    }
}

static void bury(int signals) {
    struct signalfd_siginfo seen[16];
    while (read(signals, seen, sizeof seen) > 0) continue;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        process_gone(pid);
        uint32_t code = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        if (pid == shell_pid) {
            bool was_ready = shell_ready;
            if (!was_ready && !greeted) {
                errno = 0;
                die(code == 125 ? "the kernel refused the seccomp filter or the terminal" : "bash does not start");
            }
            shell_died();
            if (command.running) done(true, code);
            else lost_shell = true;
            failed_starts = was_ready ? 0 : failed_starts + 1;
            if (!shell_broken()) shell_start(false, NULL);
        } else if (WIFSIGNALED(status)) {
            frame_open(&out, 'E');
            put_u64(&out, command_us());
            put_u32(&out, (uint32_t)pid);
            put_u32(&out, code);
            frame_close(&out);
        }
    }
}

/* Out of time: interrupt what the command started, then kill it, then its shell. */
static void lose_patience(void) {
    command.timed_out = true;
    deadline = now_us() + 300000;
    switch (patience++) {
    case 0:
        kill_since(command.since, shell_pid, SIGINT);
        return;
    case 1:
        for (int i = 0; i < 30 && kill_since(command.since, shell_pid, SIGKILL); i++) usleep(500);
        return;
    case 2:
        for (int i = 0; i < 30 && kill_since(command.since, shell_pid, SIGKILL); i++) usleep(500);
        kill(shell_pid, SIGKILL);
        return;
    default:
        kill_everything(); /* reaps the shell too */
        shell_died();
        done(true, STATUS_NONE);
        shell_start(false, NULL);
    }
}

static void loop(int signals) {
    uint64_t last_look = 0, weighed = now_us();
    for (;;) {
        struct pollfd p[3 + MAX_LISTENERS + 1];
        int n = 0;
        p[n++] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
        p[n++] = (struct pollfd){terminal_master, (short)(POLLIN | (terminal_feed_waits() ? POLLOUT : 0)), 0};
        p[n++] = (struct pollfd){signals, POLLIN, 0};
        int first = n;
        for (int i = 0; i < listener_count; i++) p[n++] = (struct pollfd){listeners[i], POLLIN, 0};
        if (in.end - in.start > FRAME_MAX) p[0].events = 0; /* enough has been said */
        int wait = command.running || !(shell_ready || shell_broken()) ? (shell_feed_waits() || shell_marked() ? 1 : 20) : settings.memory ? 100 : -1;
        if (poll(p, (nfds_t)n, wait) < 0 && errno != EINTR) die("poll");
        int served = listener_count;
        for (int i = 0; i < served; i++) {
            short e = p[first + i].revents;
            if (e & POLLIN) {
                trace_one(listeners[i]);
            } else if (e & (POLLHUP | POLLERR)) { /* nobody lives under that filter any more */
                close(listeners[i]);
                memmove(listeners + i, listeners + i + 1, sizeof *listeners * (size_t)(listener_count - i - 1));
                listener_count--;
                break;
            }
        }
        look_at_shell(shell_marked());
        if (p[1].revents & POLLIN) terminal_drain();
        if (shell_feed_waits()) shell_feed();
        if (p[2].revents & POLLIN) bury(signals);
        if (p[0].revents & (POLLIN | POLLHUP)) host_speaks();
        if (command.running) {
            if (out.end - out.start > 1 << 16) host_flush();
            uint64_t now = now_us();
            if (now > deadline) lose_patience();
            if (command.running && now - last_look > 20000) {
                last_look = now;
                if (now - command.started > 50000) terminal_feed_more();
                shell_remind();
            }
        }
        if (greeted && !shell_ready && !shell_broken() && now_us() - shell_begun > START_US) {
            failed_starts = GIVEN_UP - 1;
            kill(shell_pid, SIGKILL);
        }
        if (settings.memory && now_us() - weighed > 50000) {
            weighed = now_us();
            enforce_memory();
        }
        serve_requests();
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: supervisor serve|box OPTIONS (docs/sandbox.md)\n");
        return 2;
    }
    if (!strcmp(argv[1], "box")) {
        box_enter(argc, argv);
    } else {
        for (int i = 2; i + 1 < argc; i += 2) {
            if (!strcmp(argv[i], "--home")) settings.home = argv[i + 1];
            if (!strcmp(argv[i], "--pids")) settings.pids = atol(argv[i + 1]);
            if (!strcmp(argv[i], "--memory")) settings.memory = strtoull(argv[i + 1], NULL, 10);
        }
    }
    settings.pid_one = getpid() == 1;
    prctl(PR_SET_DUMPABLE, 0); /* nobody inside reads our memory, descriptors or environment */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int s = 1; s < NSIG; s++) signal(s, s == SIGCHLD || s == SIGSEGV || s == SIGABRT || s == SIGBUS ? SIG_DFL : SIG_IGN);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd < 19;) continue; /* 3 to 19 are the shell's */
    command.left = limits;
    int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) die("signalfd");
    keep_pristine_bash();
    terminal_open();
    shell_start(false, settings.home);
    loop(signals);
}
