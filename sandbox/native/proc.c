/* Reading the small files of /proc. */
#include "proc.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t proc_read(char *text, size_t n, const char *format, ...) {
    char path[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    *text = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t got = read(fd, text, n - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return got;
}

unsigned long proc_stack(pid_t pid) {
    char line[1024];
    if (proc_read(line, sizeof line, "/proc/%d/stat", pid) <= 0) return 0;
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < 28; field++) at = strchr(at + 1, ' ');
    return at ? strtoul(at + 1, NULL, 10) : 0;
}
