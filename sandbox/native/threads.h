/* Who is who in the box: threads, their processes, and which of them are forks of our shell. */
#ifndef THREADS_H
#define THREADS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct thread {
    pid_t tid, pid, parent;
    bool shell;      /* our bash or a fork of it, with no exec since: its xtrace lines are believed */
    bool in_trace;   /* its last xtrace line goes on in its next write */
    bool ours;       /* that line belongs to the wrapper around the command */
    uint8_t saved;   /* copies of descriptor 1 that a shell has put aside, to be moved back */
    uint16_t copies; /* bit 0: descriptor 1 is a copy of stderr; higher bits: what was put aside, innermost first */
};
/* The entry of a thread, made if it is the `first` time. NULL if it is gone already. */
struct thread *thread_of(pid_t tid, bool *first);
/* It has ended: its number may come again, as somebody else. */
void thread_gone(pid_t tid);
/* Where the stack of our bash begins (proc_stack); 0 before it has started. */
extern unsigned long threads_shell_stack;
#endif
