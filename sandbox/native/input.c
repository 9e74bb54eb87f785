/* What is typed into the terminal while a command runs: first what the host gave, then end-of-file. */
#include "input.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "descriptors.h"
#include "frames.h"
#include "proc.h"
#include "processes.h"
#include "terminal.h"

static struct buffer input; /* typed, not yet taken by the terminal */
static bool feeding;
static uint64_t next_search; /* for a reader */

/* Whether a process waits for something to be typed (or waits for several things, and the terminal is its stdin). */
static bool waits_for_typing(pid_t pid) {
    char line[256];
    long number;
    unsigned long fd;
    if (proc_read(line, sizeof line, "/proc/%d/syscall", pid) <= 0) return false;
    if (sscanf(line, "%ld %lx", &number, &fd) != 2) return false;
    bool one = number == SYS_read || number == SYS_readv;
    bool several = number == SYS_ppoll || number == SYS_pselect6 || number == SYS_epoll_pwait;
#ifdef SYS_poll
    several = several || number == SYS_poll || number == SYS_select || number == SYS_epoll_wait;
#endif
    return (one || several) && destination_of(pid, one ? (int)fd : 0) == TERMINAL;
}

void input_begin(const unsigned char *bytes, size_t n) {
    input.start = input.end = 0;
    buffer_add(&input, bytes, n);
    if (n && bytes[n - 1] != '\n') buffer_add(&input, "\004", 1); /* ends the unfinished line */
    feeding = true;
    next_search = 0;
    if (n) input_feed();
}

bool input_waits(void) { return feeding && input.end > input.start; }

void input_feed(void) {
    if (!feeding) return;
    struct pollfd unread = {terminal_slave, POLLIN, 0};
    if (poll(&unread, 1, 0) > 0) return; /* what was given is still there */
    if (input.end > input.start) {
        /* A line discipline holds 4096 bytes and drops the rest. */
        size_t n = input.end - input.start < 2048 ? input.end - input.start : 2048;
        ssize_t put = write(terminal_master, input.data + input.start, n);
        if (put > 0) input.start += (size_t)put;
        return;
    }
    /* An end-of-file that nobody waits for would be a zero byte to a program that makes the terminal raw later. Looking
     * for who waits costs more the more processes there are: done less often, the longer the command runs. */
    if (clock_us() < next_search) return;
    next_search = clock_us() + (command_us() < 2000000 ? command_us() / 4 : 500000);
    struct termios now;
    if (tcgetattr(terminal_slave, &now) || !(now.c_lflag & ICANON) || !any_process(waits_for_typing)) return;
    if (write(terminal_master, "\004", 1) < 0) return; /* no room: the next time */
}

void input_end(void) {
    input.start = input.end = 0;
    feeding = false;
}
