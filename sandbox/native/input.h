/* What is typed into the terminal while a command runs: first what the host gave, then end-of-file. */
#ifndef INPUT_H
#define INPUT_H
#include <stdbool.h>
#include <stddef.h>

/* Begins to type those bytes, in place of all before. */
void input_begin(const unsigned char *bytes, size_t n);
/* Types more of them, then end-of-file, to whoever reads. */
void input_feed(void);
/* Some are not typed yet. */
bool input_waits(void);
/* Types no more. */
void input_end(void);
#endif
