/* Bash's own trace (set -x): which simple commands the shell runs, and with what status the last one ended. */
#include "xtrace.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "command.h"
#include "descriptors.h"
#include "events.h"
#include "peek.h"
#include "shell.h"
#include "terminal.h"

#define TRACE_MARK '\036' /* begins every xtrace line: the first character of our PS4, repeated per level */

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

/* Words by which a command may change how its shell traces: from then on we say anew how it should, each time. */
static bool meddles(const unsigned char *words, size_t n) {
    return memmem(words, n, "PS4", 3) || memmem(words, n, "XTRACEFD", 8) || memmem(words, n, "xtrace", 6) ||
           (n > 5 && !memcmp(words, "set +", 5));
}

void xtrace_write(struct thread *t, size_t n) {
    if (!n) return;
    bool begins = !t->in_trace;
    size_t level = 0;
    const unsigned char *from = peeked, *words = NULL, *end = peeked + n;
    t->in_trace = end[-1] != '\n';
    if (begins) {
        while (level < n && peeked[level] == TRACE_MARK) level++;
        if (level && level < n && peeked[level] == 'X') from = peeked + level + 1;
        words = from > peeked ? memchr(from, ':', (size_t)(end - from)) : NULL;
        if (words) words = memchr(words + 1, ':', (size_t)(end - words - 1));
        if (words) words++;
        else shell_trace.spoilt = true; /* the agent's own PS4 */
        t->ours = shell_trace.ours;
    }
    if (!words) words = from;
    size_t length = (size_t)(end - words);
    if (begins && length > 8 && !memcmp(words, "eval -- ", 8)) shell_trace.ours = false; /* here the command begins */
    if (t->ours) return;
    if (begins && command.timed_out && t->pid == shell_pid) { /* nothing more of it begins */
        kill(shell_pid, SIGKILL);
        return;
    }
    event_trace(t, begins ? 'T' : 'C', from, (size_t)(end - from));
    if (shell_trace.visible) {
        size_t plusses = !begins || !level ? 0 : level > 2 ? level - 1 : 1; /* our eval is one level */
        show(t, plusses < 32 ? plusses : 32, words, length);
    }
    char line[64] = "";
    memcpy(line, words, length < sizeof line - 1 ? length : sizeof line - 1);
    int turn = begins ? turns_trace(line) : 0;
    if (turn) shell_trace.visible = turn > 0;
    if (meddles(words, length)) shell_trace.spoilt = shell_trace.lost = true;
}
