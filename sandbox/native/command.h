/* The command in progress: since when it runs, and how much of it may still be shown and recorded. */
#ifndef COMMAND_H
#define COMMAND_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limits {
    uint64_t shown;    /* bytes of terminal output */
    uint64_t recorded; /* bytes of events */
};
struct command {
    bool running, timed_out;
    uint64_t started;    /* microseconds, monotonic */
    unsigned long since; /* the same moment in clock ticks since boot, as /proc/PID/stat counts */
    struct limits left;
    uint64_t cut; /* bytes left out for those limits */
};
extern struct command command;

/* Microseconds since the command began; 0 between commands. */
uint64_t command_us(void);
/* Takes n bytes off what may still be recorded. */
void command_charge(size_t n);
#endif
