/* The processes of the box as they are now: signals to them, and limits on their number and size. */
#ifndef PROCESSES_H
#define PROCESSES_H
#include <stdbool.h>
#include <sys/types.h>

/* Signals what the agent started at or after `since` ticks, except `spare`; returns how many it met. */
int kill_since(unsigned long since, pid_t spare, int signal);
/* Kills everything but the supervisor, and reaps it. */
void kill_everything(void);
/* Whether `holds` is true of any of them. */
bool any_process(bool (*holds)(pid_t pid));
/* True if one more process would exceed the limit. */
bool pids_exhausted(void);
/* Kills the largest process while the box holds more memory than allowed. */
void enforce_memory(void);
/* Kills everything while it holds more terminals than a box should: the host has some 3000 for all. */
void enforce_terminals(void);
#endif
