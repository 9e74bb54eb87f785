/* The command in progress: since when it runs. */
#ifndef COMMAND_H
#define COMMAND_H
#include <stdbool.h>
#include <stdint.h>

struct command {
    bool running, timed_out;
    uint64_t started;    /* microseconds, monotonic */
    unsigned long since; /* the same moment in clock ticks since boot, as /proc/PID/stat counts */
};
extern struct command command;

/* Microseconds since the command began; 0 between commands. */
uint64_t command_us(void);
#endif
