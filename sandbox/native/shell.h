/* The agent's bash: fed through a private pipe, one command at a time. */
#ifndef SHELL_H
#define SHELL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

extern pid_t shell_pid;
extern bool shell_ready;       /* it has read its first lines: the agent's commands may come */
extern uint64_t shell_started; /* when the last one was, in microseconds */

/* Bash always traces, for the record; this is what the agent and the wrapper around its commands have to do with it. */
extern struct shell_trace {
    bool visible; /* the agent asked for `set -x`: xtrace lines are shown, not only recorded */
    bool ours;    /* xtrace lines belong to the wrapper, not yet to the command */
    bool spoilt;  /* a command had to do with PS4 or its like: say each time how to trace */
    bool lost;    /* the trace may no longer come on TRACE_FD */
} shell_trace;

/* What the shell runs is not yet the agent's. */
bool shell_prepares(void);

/* Starts bash, or the image's own one, in that directory or the last one. */
void shell_start(bool pristine, const char *where);
void shell_run(const unsigned char *text, size_t n);
/* When memory runs out, bash and what it starts are to be killed before the supervisor. */
void shell_goes_first(void);
/* Gives bash more of its lines; shell_feed_waits: there are more. */
void shell_feed(void);
bool shell_feed_waits(void);

/* A write of the shell to stderr: true if it was the end-of-command marker. */
bool shell_take_marker(const unsigned char *bytes, size_t n);
/* Whether that write is `set -v` or `set -x` repeating the wrapper's line: nothing that a person would have typed. */
bool shell_is_echo(const unsigned char *bytes, size_t n);
/* The marker has come. */
bool shell_marked(void);
/* True once the marker has come and the shell waits for its next line. */
bool shell_finished(void);
/* If the shell waits for a line and no marker is on its way (someone took it): send another. */
void shell_mark_again(void);
/* It has served, or the shell is dead. */
void shell_forget_marker(void);

/* The exit status of the last command. */
int shell_status(void);
/* The working directory, or the last one known. */
void shell_directory(char *path, size_t n);
/* F frames: what the shell's descriptors 0 to 9 lead to, for a snapshot. */
void shell_redirections(void);
#endif
