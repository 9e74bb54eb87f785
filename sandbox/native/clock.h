/* The two clocks: microseconds for us, and the ticks in which /proc dates processes. */
#ifndef CLOCK_H
#define CLOCK_H
#include <stdint.h>

/* Microseconds, monotonic. */
uint64_t clock_us(void);
/* Clock ticks since boot, as /proc/PID/stat counts. */
unsigned long clock_ticks(void);
#endif
