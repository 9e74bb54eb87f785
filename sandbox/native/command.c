/* The command in progress: since when it runs, and how much of it may still be shown and recorded. */
#include "command.h"

#include "clock.h"

struct command command;

uint64_t command_us(void) { return command.running ? clock_us() - command.started : 0; }

void command_charge(size_t n) { command.left.recorded -= n < command.left.recorded ? n : command.left.recorded; }
