/* The command in progress: since when it runs. */
#include "command.h"

#include "clock.h"

struct command command;

uint64_t command_us(void) { return command.running ? clock_us() - command.started : 0; }
