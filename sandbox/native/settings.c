/* The command line of the supervisor. */
#include "settings.h"

#include <stdlib.h>
#include <string.h>

struct settings settings = {.upper = -1, .proc = -1, .home = "/root", .disk = 512ull << 20};

void settings_read(int argc, char **argv) {
    bool box = argc > 1 && !strcmp(argv[1], "box");
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--pids")) settings.pids = atol(value);
        if (!strcmp(name, "--memory")) settings.memory = strtoull(value, NULL, 10);
        if (!strcmp(name, "--home") && !box) settings.home = value;
        if (!strcmp(name, "--root") && box) settings.root = value;
        if (!strcmp(name, "--cgroup") && box) settings.cgroup = value;
        if (!strcmp(name, "--disk") && box) settings.disk = strtoull(value, NULL, 10);
    }
}
