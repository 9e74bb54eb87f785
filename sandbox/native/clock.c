/* The two clocks: microseconds for us, and the ticks in which /proc dates processes. */
#include "clock.h"

#include <time.h>
#include <unistd.h>

uint64_t clock_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

unsigned long clock_ticks(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    long hz = sysconf(_SC_CLK_TCK);
    return (unsigned long)(t.tv_sec * hz + t.tv_nsec / (1000000000 / hz));
}
