/* The supervisor: PID 1 of a box. It starts bash on a pty under a seccomp user-notification filter, records
 * writes to stderr, execs and exits before they happen, and answers the host's frames. One thread. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H
#define _GNU_SOURCE
#include <limits.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frames.h"

struct settings {
    bool pid_one;     /* alone in a pid namespace: may signal everything, may repair /etc/ld.so.preload */
    bool fake_owners; /* one user id only: pretend that chown, setuid and mknod succeed */
    long pids;        /* most processes and threads in the box; 0: enforced elsewhere */
    uint64_t memory;  /* most resident bytes of all processes; 0: enforced elsewhere */
    int upper;        /* the overlay's upper directory, or -1 */
    const char *home; /* where the first shell starts, and $HOME */
};
extern struct settings settings;

/* ---- main.c: the command in progress, and what is sent to the host */
extern struct buffer out;
struct limits {
    uint64_t shown, recorded;
};
struct command {
    bool running, timed_out;
    uint64_t started;       /* microseconds, monotonic */
    unsigned long since;    /* the same moment in clock ticks since boot, as /proc/PID/stat counts */
    struct limits left;
    uint64_t cut;
};
extern struct command command;
extern bool greeted; /* the host knows that the box works */
uint64_t now_us(void);
uint64_t command_us(void);
void host_flush(void);
void host_error(int error, const char *what);
_Noreturn void die(const char *what);

/* ---- filter.c */
/* Puts the calling process under the filter for good; returns the listener, or -1. */
int filter_install(void);

/* ---- processes.c */
struct process {
    pid_t tid, pid, parent;
    bool shell;     /* our bash or a fork of it, with no exec since: its xtrace lines are believed */
    bool in_trace;  /* its last write was the beginning of an xtrace line */
    bool ours;      /* that line belongs to the wrapper around the command */
    uint8_t quotes; /* inside which quotes it broke off */
    uint16_t copies; /* bit 0: descriptor 1 is a copy of stderr; higher bits: what bash saved, innermost first */
};
/* The entry of a thread, made on first sight (and told to the host). NULL if it is gone already. */
struct process *process_seen(pid_t tid);
void process_gone(pid_t pid);
/* Where the stack of a process begins: forks share it, and every exec draws another. 0 if unknown. */
unsigned long process_layout(pid_t pid);
extern unsigned long shell_layout;
/* Signals what the agent started at or after `since` ticks, except `spare`; returns how many it met. */
int kill_since(unsigned long since, pid_t spare, int signal);
/* Kills everything but the supervisor, and reaps it. */
void kill_everything(void);
/* Whether a process waits for something to be typed (or waits for several things, and the terminal is its stdin). */
bool terminal_awaited(void);
/* True if one more process would exceed the limit. */
bool pids_exhausted(void);
/* Kills the largest process while the box holds more memory than allowed. */
void enforce_memory(void);
unsigned long ticks_now(void);

/* A small file, with a zero at its end: its length, or -1. */
ssize_t slurp(const char *path, char *text, size_t n);

/* ---- peek.c */
#define WRITE_MAX (1u << 20) /* kept of one write */
/* Where a descriptor leads; CLOSED ones nowhere, and so does /dev/null. */
enum leads { TERMINAL, NOWHERE, CLOSED, FILE_, PIPE, SOCKET, OTHER };
enum leads leads(pid_t tid, int fd);
/* Our terminal is open twice: the descriptor given to the shell as stderr carries O_APPEND, which means nothing
 * on a terminal and marks every copy of it. */
bool marked_stderr(pid_t tid, int fd);
/* Memory of another process; how many bytes could be read, or -1. */
ssize_t peek(pid_t tid, uint64_t address, void *bytes, size_t n);
/* Length of the string at `address`, at most n bytes of it in `s`; stops at the first unreadable page. */
size_t peek_string(pid_t tid, uint64_t address, char *s, size_t n);
/* Reads what a writing system call is about to write into `caught`; `total` is its full length. */
extern unsigned char caught[WRITE_MAX];
size_t written(const struct seccomp_notif *r, uint64_t *total);

/* ---- trace.c */
#define EVENT_COST 32u /* what an event costs of the limit besides its text: a flood of small ones must end, too */
/* Receives one notification, records it, lets the system call go on (or swallows it). */
void trace_one(int listener);
/* Opens a frame of an event of that process; the caller fills and closes it. */
void event(char type, const struct process *p);
void event_write(const struct process *p, int fd, enum leads to, const unsigned char *bytes, size_t n, uint64_t total);
/* Takes n bytes off what may still be recorded of the command. */
void charge(size_t n);

/* ---- xtrace.c */
/* A write of n bytes of `caught` to stderr by our shell: true if it was xtrace, "\036\036X<status>:<depth>:<words>\n" or
 * the rest of one that was too long for one write. That goes to the host, and to the terminal only if the agent itself
 * asked for a trace. */
bool trace_line(struct process *p, size_t n);
extern bool trace_visible; /* the agent asked for `set -x`: xtrace lines are shown, not only recorded */
extern bool trace_ours;    /* xtrace lines belong to the wrapper, not yet to the command */
extern bool trace_spoilt;  /* a command had to do with PS4: it must be set again */

/* ---- terminal.c */
extern int terminal_master, terminal_slave;
extern uint64_t terminal_device;
void terminal_open(void);
void terminal_reset(void);
/* Moves what the terminal holds into O frames. */
void terminal_drain(void);
/* The same, until all that was written before this call has come through. */
void terminal_sync(void);
void terminal_show(const void *bytes, size_t n);
void terminal_feed(const unsigned char *bytes, size_t n);
/* Gives pending input, then end-of-file, to whoever reads. */
void terminal_feed_more(void);
bool terminal_feed_waits(void);

/* ---- shell.c */
extern pid_t shell_pid;
extern bool shell_ready;
extern uint64_t shell_begun; /* when the last one was started */
void shell_start(bool pristine, const char *directory);
void shell_run(const unsigned char *text, size_t n);
/* Gives bash more of its lines; shell_feed_waits: there are more. */
void shell_feed(void);
bool shell_feed_waits(void);
/* A write of the shell to stderr: true if it was the end-of-command marker. */
bool shell_marker(const unsigned char *bytes, size_t n);
/* Whether that write is `set -v` repeating the wrapper's line: nothing that a person would have typed. */
bool shell_echo(const unsigned char *bytes, size_t n);
bool shell_marked(void);
/* True once the marker has come and the shell waits for its next line. */
bool shell_finished(void);
/* If the shell waits for a line and no marker is on its way (someone took it): send another. */
void shell_remind(void);
int shell_status(void);
void shell_died(void);
void shell_directory(char *path, size_t n);
void shell_redirections(void);
void keep_pristine_bash(void);

#define MAX_LISTENERS 64
extern int listeners[MAX_LISTENERS];
extern int listener_count;

/* ---- files.c */
void file_get(struct reader *request);
void file_put(struct reader *request);
void files_pack(struct reader *request);
void files_unpack(struct reader *request);

/* ---- box.c */
/* `supervisor box`: makes namespaces and the overlay, and returns in PID 1 of the new box. */
void box_enter(int argc, char **argv);
#endif
