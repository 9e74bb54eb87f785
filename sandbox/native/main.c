/* The supervisor: PID 1 of a box. It starts bash on a pty under a seccomp user-notification filter, records writes to
 * stderr, execs and exits before they happen, and answers the host's frames. One thread.
 *
 * Here is its loop: frames from the host, notifications from what the agent runs, output of its terminal, deaths. The
 * Makefile lists the files from the bottom up: each knows only those before it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "archive.h"
#include "bash.h"
#include "box.h"
#include "clock.h"
#include "events.h"
#include "files.h"
#include "filter.h"
#include "frames.h"
#include "host.h"
#include "input.h"
#include "processes.h"
#include "run.h"
#include "settings.h"
#include "shell.h"
#include "terminal.h"
#include "threads.h"
#include "trace.h"

static struct buffer verify; /* a request V that waits for its clean shell */

static void answer(char type, struct reader *r) {
    switch (type) {
    case 'R':
        run_command(r, false);
        return;
    case 'V':
        verify.start = verify.end = 0;
        buffer_add(&verify, r->at, read_left(r));
        run_clean_slate();
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
        archive_pack(r);
        kill_since(0, 0, SIGCONT);
        break;
    case 'U':
        archive_unpack(r);
        break;
    case 'I':
        return; /* the command that it meant has ended */
    case 'Q':
        host_quit(0);
    default:
        host_error(EBADMSG, "unknown frame");
    }
    host_flush();
}

static void answer_all(void) {
    char type;
    struct reader r;
    while (!run_busy()) {
        if (verify.end) {
            r = (struct reader){verify.data, verify.data + verify.end, false};
            verify.end = 0;
            run_command(&r, true);
            return;
        }
        if (!host_request(&type, &r)) return;
        answer(type, &r);
    }
}

static void reap(int signals) {
    struct signalfd_siginfo seen[16];
    while (read(signals, seen, sizeof seen) > 0) continue;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        thread_gone(pid);
        uint32_t code = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        if (pid == shell_pid) run_shell_exited(code);
        else if (WIFSIGNALED(status)) event_exit(pid, code); /* any other end was a system call, on record already */
    }
}

static void loop(int signals) {
    uint64_t weighed = clock_us();
    for (;;) {
        struct pollfd p[3 + MAX_LISTENERS + 1];
        int n = 0;
        p[n++] = (struct pollfd){STDIN_FILENO, (short)(host_crowded() ? 0 : POLLIN), 0};
        p[n++] = (struct pollfd){terminal_master, (short)(POLLIN | (input_waits() ? POLLOUT : 0)), 0};
        p[n++] = (struct pollfd){signals, POLLIN, 0};
        int first = n;
        for (int i = 0; i < listener_count; i++) p[n++] = (struct pollfd){listeners[i], POLLIN, 0};
        int wait = run_busy() ? (shell_feed_waits() || shell_marked() ? 1 : 20) : 100;
        if (poll(p, (nfds_t)n, wait) < 0 && errno != EINTR) die("poll");
        int served = listener_count;
        for (int i = 0; i < served; i++) {
            short e = p[first + i].revents;
            if (e & POLLIN) {
                trace_notification(listeners[i]);
            } else if (e & (POLLHUP | POLLERR)) { /* nobody lives under that filter any more */
                listeners_remove(i);
                break;
            }
        }
        run_check_shell(shell_marked());
        if (p[1].revents & POLLIN) terminal_drain();
        if (shell_feed_waits()) shell_feed();
        if (p[2].revents & POLLIN) reap(signals);
        if (p[0].revents & (POLLIN | POLLHUP)) host_read();
        run_watch();
        if (clock_us() - weighed > 50000) {
            weighed = clock_us();
            if (settings.memory) enforce_memory();
            else enforce_terminals(); /* a rootless box cannot have many */
        }
        answer_all();
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: supervisor serve|box OPTIONS (docs/sandbox.md)\n");
        return 2;
    }
    settings_read(argc, argv);
    if (!strcmp(argv[1], "box")) box_enter();
    settings.pid_one = getpid() == 1;
    if (settings.proc < 0) settings.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    prctl(PR_SET_DUMPABLE, 0); /* nobody inside reads our memory, descriptors or environment */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int s = 1; s < NSIG; s++)
        signal(s, s == SIGCHLD || s == SIGSEGV || s == SIGABRT || s == SIGBUS ? SIG_DFL : SIG_IGN);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    /* 3 to 19 are the shell's. */
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd < 19;) continue;
    int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) die("signalfd");
    bash_keep_pristine();
    terminal_open();
    run_first_shell();
    loop(signals);
}
