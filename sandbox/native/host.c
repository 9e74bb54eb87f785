/* What goes between the box and the host: requests in, answers out, and the end of it all. */
#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "processes.h"
#include "settings.h"

struct buffer host_out;
bool host_greeted;
static struct buffer in;

void host_quit(int code) {
    if (!settings.pid_one) kill_everything(); /* the kernel does it for a pid namespace */
    _exit(code);
}

void host_flush(void) {
    while (host_out.end > host_out.start) {
        ssize_t n = write(STDOUT_FILENO, host_out.data + host_out.start, host_out.end - host_out.start);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) host_quit(0); /* the host is gone */
        host_out.start += (size_t)n;
    }
}

void host_error(int error, const char *what) {
    frame_open(&host_out, '!');
    put_u32(&host_out, (uint32_t)error);
    buffer_add(&host_out, what, strlen(what));
    frame_close(&host_out);
}

void die(const char *what) {
    host_error(errno, what);
    host_flush();
    host_quit(3);
}

void host_greet(void) {
    char text[80];
#ifdef __x86_64__
    const char *machine = "x86_64";
#else
    const char *machine = "aarch64";
#endif
    int n = snprintf(text, sizeof text, "devnull-supervisor %d %s", PROTOCOL, machine);
    frame_open(&host_out, 'H');
    buffer_add(&host_out, text, (size_t)n);
    frame_close(&host_out);
    host_flush();
    host_greeted = true;
}

void host_read(void) {
    ssize_t n = read(STDIN_FILENO, buffer_room(&in, 1 << 16), 1 << 16);
    if (n <= 0) host_quit(0);
    in.end += (size_t)n;
}

bool host_crowded(void) { return in.end - in.start > FRAME_MAX; }

bool host_request(char *type, struct reader *payload) {
    enum frame_state state = frame_next(&in, type, payload);
    if (state == FRAME_MALFORMED) {
        host_error(EBADMSG, "frame too long");
        host_flush();
        host_quit(2);
    }
    return state == FRAME_READY;
}

bool host_interrupts(void) {
    char type;
    struct reader payload;
    return in.end > in.start && in.data[in.start] == 'I' && host_request(&type, &payload);
}
