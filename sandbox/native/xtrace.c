/* Bash's own trace (set -x): which simple commands the shell runs, and with what status the last one ended. */
#include "xtrace.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "command.h"
#include "descriptors.h"
#include "events.h"
#include "peek.h"
#include "shell.h"
#include "terminal.h"

#define COMPLAINT "/dev/fd/10: " /* begins a complaint of our shell itself */
#define TRACE_MARK '\036' /* begins every xtrace line: the first character of PS4, repeated per level */

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

/* Shows a piece of trace to the agent, who asked for it. */
static void show(const struct thread *t, size_t plusses, const unsigned char *words, size_t n) {
    static unsigned char line[WRITE_MAX + 64];
    memset(line, '+', plusses);
    if (plusses) line[plusses++] = ' ';
    memcpy(line + plusses, words, n);
    enum destination to = destination_of(t->tid, 2);
    if (to == TERMINAL) terminal_show(line, plusses + n);
    event_write(t, 2, to, line, plusses + n, plusses + n);
}

bool xtrace_line(struct thread *t, size_t n) {
    size_t level = 0;
    while (level < n && peeked[level] == TRACE_MARK) level++;
    const unsigned char *from = peeked, *words = peeked, *end = peeked + n;
    char type = 'C';
    if (level && level < n && peeked[level] == 'X') {
        type = 'T';
        from = peeked + level + 1;
        words = memchr(from, ':', (size_t)(end - from));
        if (words) words = memchr(words + 1, ':', (size_t)(end - words - 1));
        if (!words) return false;
        words++;
        t->quotes = 0;
        t->ours = shell_trace.ours;
    } else if (!t->in_trace || (n >= sizeof COMPLAINT - 1 && !memcmp(peeked, COMPLAINT, sizeof COMPLAINT - 1))) {
        t->in_trace = false; /* a quote that was left open, forged perhaps, swallows no complaint */
        return false;
    }
    size_t length = (size_t)(end - words);
    t->quotes = quotes(t->quotes, words, length);
    t->in_trace = end[-1] != '\n' || t->quotes;
    /* Here the command begins. */
    if (type == 'T' && length > 8 && !memcmp(words, "eval -- ", 8)) shell_trace.ours = false;
    if (t->ours) return true;
    if (type == 'T' && command.timed_out && t->pid == shell_pid) { /* nothing more of it begins */
        kill(shell_pid, SIGKILL);
        return true;
    }
    event_trace(t, type, from, (size_t)(end - from));
    if (shell_trace.visible) {
        size_t plusses = type == 'C' ? 0 : level > 2 ? level - 1 : 1; /* our eval is one level */
        show(t, plusses < 32 ? plusses : 32, words, length);
    }
    char line[64] = "";
    memcpy(line, words, length < sizeof line - 1 ? length : sizeof line - 1);
    int turn = type == 'T' ? turns_trace(line) : 0;
    if (turn) shell_trace.visible = turn > 0;
    if (memmem(words, length, "PS4", 3)) shell_trace.spoilt = true;
    return true;
}
