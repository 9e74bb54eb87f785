/* What is kept of a command's events: of each kind a head, which goes out as it comes, and a tail, which goes out when
 * the command ends. What a flood pushed out between the two is counted.
 *
 * The kinds have a budget each, so that none can bury another: what the terminal showed; stderr and the shell's trace;
 * programs, their arguments and their ends. */
#ifndef RECORD_H
#define RECORD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h"

struct limits {
    uint64_t shown;    /* bytes of terminal output */
    uint64_t recorded; /* bytes of stderr and trace; as many again of programs */
};

/* The tails held go out, after a frame L if anything was left out before them; budgets start anew. */
void record_begin(struct buffer *out, struct limits limits);
/* record_open .. put_* .. record_close: one event, in the buffer that record_open returns. */
struct buffer *record_open(char type);
void record_close(void);
/* n bytes of a write could not even be read. */
void record_lost(uint64_t n, bool on_terminal);
/* Bytes left out since the last call: output, and what was to be stderr but not on the terminal. */
uint64_t record_take_cut(void);

/* A place in the record. Events made since then can be taken back until the next record_begin. */
struct record_mark {
    size_t head, tail;
};
struct record_mark record_mark(void);
bool record_since(const struct record_mark *mark);
void record_take_back(const struct record_mark *mark);
#endif
