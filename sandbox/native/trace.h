/* One notification at a time: what is about to be written, executed or ended goes on record before it happens. */
#ifndef TRACE_H
#define TRACE_H

/* Receives one notification, records it, lets the system call go on (or swallows it). */
void trace_notification(int listener);
#endif
