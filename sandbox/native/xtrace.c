/* What bash's xtrace says, for the host: which simple commands the shell runs, and with what status the last one ended. */
#include "supervisor.h"

#include <signal.h>
#include <string.h>

#define COMPLAINT "/dev/fd/10: " /* begins what our shell has to say for itself */
#define TRACE_MARK '\036' /* begins every xtrace line: the first character of PS4, repeated per level */

bool trace_visible, trace_ours, trace_spoilt;

/* `set -x`, `set -ex`, `set -o xtrace`: 1; the same with `+`: -1; anything else: 0. */
static int turns_trace(const char *words) {
    if (strncmp(words, "set ", 4)) return 0;
    int turn = 0;
    for (const char *w = words + 4; *w && *w != '\n'; w += strcspn(w, " \n"), w += *w == ' ') {
        if (*w != '-' && *w != '+') continue;
        size_t n = strcspn(w, " \n");
        bool long_name = n == 2 && w[1] == 'o' && !strncmp(w + 2, " xtrace", 7);
        if (long_name || (w[1] != '-' && memchr(w + 1, 'x', n - 1))) turn = *w == '-' ? 1 : -1;
    }
    return turn;
}

/* Whether the words of a trace, so far, end inside quotes: bash quotes a newline by '...', and writes line by line. */
static uint8_t quotes(uint8_t state, const unsigned char *s, size_t n) {
    enum { PLAIN, SINGLE, ESCAPED, DOLLAR, ANSI, ANSI_ESCAPED };
    for (size_t i = 0; i < n; i++) {
        unsigned char c = s[i];
        switch (state) {
        case SINGLE:
            state = c == '\'' ? PLAIN : SINGLE;
            break;
        case ESCAPED:
            state = PLAIN;
            break;
        case ANSI:
            state = c == '\'' ? PLAIN : c == '\\' ? ANSI_ESCAPED : ANSI;
            break;
        case ANSI_ESCAPED:
            state = ANSI;
            break;
        default:
            state = c == '\'' ? (state == DOLLAR ? ANSI : SINGLE) : c == '\\' ? ESCAPED : c == '$' ? DOLLAR : PLAIN;
        }
    }
    return state == DOLLAR ? PLAIN : state;
}

/* Shows a piece of trace if the agent itself asked for one. */
static void trace_shown(const struct process *p, size_t plusses, const unsigned char *words, size_t n) {
    static unsigned char line[WRITE_MAX + 64];
    memset(line, '+', plusses);
    if (plusses) line[plusses++] = ' ';
    memcpy(line + plusses, words, n);
    enum leads to = leads(p->tid, 2);
    if (to == TERMINAL) terminal_show(line, plusses + n);
    event_write(p, 2, to, line, plusses + n, plusses + n);
}

bool trace_line(struct process *p, size_t n) {
    size_t level = 0;
    while (level < n && caught[level] == TRACE_MARK) level++;
    const unsigned char *from = caught, *words = caught, *end = caught + n;
    char type = 'C';
    if (level && level < n && caught[level] == 'X') {
        type = 'T';
        from = caught + level + 1;
        words = memchr(from, ':', (size_t)(end - from));
        if (words) words = memchr(words + 1, ':', (size_t)(end - words - 1));
        if (!words) return false;
        words++;
        p->quotes = 0;
        p->ours = trace_ours;
    } else if (!p->in_trace || (n >= sizeof COMPLAINT - 1 && !memcmp(caught, COMPLAINT, sizeof COMPLAINT - 1))) {
        p->in_trace = false; /* a quote that was left open, forged perhaps, swallows no complaint */
        return false;
    }
    size_t length = (size_t)(end - words);
    p->quotes = quotes(p->quotes, words, length);
    p->in_trace = end[-1] != '\n' || p->quotes;
    if (type == 'T' && length > 8 && !memcmp(words, "eval -- ", 8)) trace_ours = false; /* here the command begins */
    if (p->ours) return true;
    if (type == 'T' && command.timed_out && p->pid == shell_pid) { /* nothing more of it begins */
        kill(shell_pid, SIGKILL);
        return true;
    }
    if ((size_t)(end - from) + EVENT_COST <= command.left.recorded) {
        charge((size_t)(end - from) + EVENT_COST);
        event(type, p);
        buffer_add(&out, from, (size_t)(end - from) - !p->in_trace);
        frame_close(&out);
    }
    if (trace_visible) {
        size_t plusses = type == 'C' ? 0 : level > 2 ? level - 1 : 1; /* our eval is one level */
        trace_shown(p, plusses < 32 ? plusses : 32, words, length);
    }
    char line[64] = "";
    memcpy(line, words, length < sizeof line - 1 ? length : sizeof line - 1);
    int turn = type == 'T' ? turns_trace(line) : 0;
    if (turn) trace_visible = turn > 0;
    if (memmem(words, length, "PS4", 3)) trace_spoilt = true;
    return true;
}
