/* What goes between the box and the host: requests in, answers out, and the end of it all. */
#ifndef HOST_H
#define HOST_H
#include <stdbool.h>

#include "frames.h"

/* Frames for the host, sent by host_flush. */
extern struct buffer host_out;
/* The host knows that the box works. */
extern bool host_greeted;

void host_greet(void);
/* Reads what the host has sent, a piece of it; ends the supervisor when the host is gone. */
void host_read(void);
/* So much was sent ahead that no more should be read for now. */
bool host_crowded(void);
/* The next whole request, valid until the next host_read; false if there is none. A malformed one ends the
 * supervisor. */
bool host_request(char *type, struct reader *payload);
/* Takes a request I, if it is the next. */
bool host_interrupts(void);
void host_flush(void);
/* Answers a request with an error: an errno, or 0, and what it is about. */
void host_error(int error, const char *what);
_Noreturn void host_quit(int code);
/* A failure of the box itself: sends errno and `what`, and quits. */
_Noreturn void die(const char *what);
#endif
