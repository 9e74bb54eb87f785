/* A command from its request to its end, and the shells that come and go meanwhile. */
#include "run.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "budgets.h"
#include "clock.h"
#include "command.h"
#include "filter.h"
#include "host.h"
#include "input.h"
#include "proc.h"
#include "processes.h"
#include "record.h"
#include "settings.h"
#include "shell.h"
#include "terminal.h"
#include "threads.h"

static bool lost_shell;   /* since the last command: the host hears of it with the next */
static int failed_starts; /* of bash, one after the other */
static int escalation;    /* steps taken against a command that is out of time */
static uint64_t deadline; /* of the command, then of each such step */
static struct limits limits = {1 << 20, 4 << 20};

#define STATUS_NONE 0xffffffffu
enum { FLAG_TIMED_OUT = 1, FLAG_SHELL_EXITED = 2 };

#define GIVEN_UP 5 /* failed starts */
#define START_US 5000000u /* a shell that takes longer to start never will: the agent put something else in its place */

/* The agent broke what bash needs: commands end with 127, as they would for a person. It is no failure of the box. */
static bool shell_broken(void) { return failed_starts >= GIVEN_UP; }

bool run_busy(void) { return command.running || !(shell_ready || shell_broken()); }

void run_first_shell(void) {
    record_begin(&host_out, limits);
    shell_start(false, settings.home);
}

static void end_command(bool shell_exited, uint32_t status) {
    char directory[PATH_MAX];
    /* A shell that was interrupted may end before the jobs it left in the background, which ignore interrupts. */
    for (int i = 0; command.timed_out && i < 30 && kill_since(command.since, shell_pid, SIGKILL); i++) usleep(500);
    terminal_sync();
    shell_directory(directory, sizeof directory);
    record_begin(&host_out, limits); /* for what runs on in the background until the next command */
    frame_open(&host_out, 'D');
    put_u32(&host_out, command.timed_out ? STATUS_NONE : status);
    shell_exited = shell_exited || lost_shell;
    put_u8(&host_out, (uint8_t)((command.timed_out ? FLAG_TIMED_OUT : 0) | (shell_exited ? FLAG_SHELL_EXITED : 0)));
    put_u64(&host_out, record_take_cut());
    put_u64(&host_out, command_us());
    buffer_add(&host_out, directory, strlen(directory));
    frame_close(&host_out);
    host_flush();
    command.running = lost_shell = command.timed_out = false;
    terminal_reset();
    input_end();
}

void run_check_shell(bool patient) {
    for (useconds_t nap = 0; nap < 1000; nap += nap < 20 ? 1 : nap / 2) { /* it needs some microseconds to get there */
        if (shell_finished()) {
            shell_forget_marker();
            if (!shell_ready) {
                shell_ready = true;
                failed_starts = 0;
                threads_shell_stack = proc_stack(shell_pid);
                shell_goes_first();
                if (!host_greeted) host_greet();
            } else if (command.running) {
                end_command(false, (uint32_t)shell_status());
            }
            return;
        }
        if (!patient) return;
        if (nap < 20) sched_yield();
        else usleep(nap);
    }
}

void run_command(struct reader *r, bool verify) {
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
    record_begin(&host_out, limits);
    command.started = clock_us();
    command.since = clock_ticks();
    command.running = true;
    deadline = command.started + milliseconds * 1000ull;
    escalation = 0;
    shell_trace.visible = shell_trace.visible && !verify;
    if (shell_broken()) {
        end_command(true, 127);
        return;
    }
    input_begin(typed, length);
    shell_run(r->at, read_left(r));
}

void run_clean_slate(void) {
    kill_everything();
    budgets_renew();
    while (listener_count) listeners_remove(listener_count - 1);
    if (settings.pid_one) unlink("/etc/ld.so.preload"); /* the image has none: it would speak for every program */
    terminal_open();
    failed_starts = 0;
    shell_start(true, settings.pid_one ? "/" : settings.home);
}

void run_shell_exited(uint32_t code) {
    bool was_ready = shell_ready;
    if (!was_ready && !host_greeted) {
        errno = 0;
        die(code == 125 ? "the kernel refused the seccomp filter or the terminal" : "bash does not start");
    }
    shell_forget_marker();
    if (command.running) end_command(true, code);
    else lost_shell = true;
    failed_starts = was_ready ? 0 : failed_starts + 1;
    if (!shell_broken()) shell_start(false, NULL);
}

static void kill_command(void) {
    for (int i = 0; i < 30 && kill_since(command.since, shell_pid, SIGKILL); i++) usleep(500);
}

/* Out of time, or no longer wanted: interrupt what the command started, then kill it, then its shell. */
static void stop_command(void) {
    command.timed_out = true;
    deadline = clock_us() + 300000;
    switch (escalation++) {
    case 0:
        kill_since(command.since, shell_pid, SIGINT);
        return;
    case 1:
        kill_command();
        return;
    case 2:
        kill_command();
        kill(shell_pid, SIGKILL);
        return;
    default:
        kill_everything(); /* reaps the shell too */
        shell_forget_marker();
        end_command(true, STATUS_NONE);
        shell_start(false, NULL);
    }
}

void run_watch(void) {
    static uint64_t last_look;
    if (command.running) {
        if (host_out.end - host_out.start > 1 << 16) host_flush();
        uint64_t now = clock_us();
        if (now > deadline || (host_interrupts() && !command.timed_out)) stop_command();
        if (command.running && now - last_look > 20000) {
            last_look = now;
            host_flush(); /* should the box end in this command, its record is with the host */
            if (now - command.started > 50000) input_feed();
            shell_mark_again();
        }
    }
    if (host_greeted && !shell_ready && !shell_broken() && clock_us() - shell_started > START_US) {
        failed_starts = GIVEN_UP - 1;
        kill(shell_pid, SIGKILL);
    }
}
