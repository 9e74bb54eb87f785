/* What is kept of a command's events: of each kind a head, which goes out as it comes, and a tail, which goes out when
 * the command ends. */
#include "record.h"

#include <stdlib.h>
#include <string.h>

#define EVENT_COST 32u /* what an event costs besides its text: a flood of small ones must end, too */

enum kind { OUTPUT, TEXT, PROGRAMS, KINDS };
static struct share {
    uint64_t limit, headed, tailed; /* what events of this kind may cost, and do */
    size_t oldest;                  /* no frame of this kind lives before this place in the tail */
} shares[KINDS];

static struct buffer *head, *at, tail; /* frames dropped from the tail have type 0 until they are cleared away */
static size_t begun, dropped;          /* where the open frame begins; bytes of the tail that are no more */
static bool late;                      /* some kind has used up its head: to stay in order, all go to the tail */
static uint64_t shown_out, recorded_out, cut;

static enum kind kind_of(unsigned char type) {
    switch (type) {
    case 'O':
        return OUTPUT;
    case 'W':
    case 'T':
    case 'C':
        return TEXT;
    case 'X':
    case 'E':
    case 'N':
        return PROGRAMS;
    default:
        return KINDS; /* costs nothing, is never dropped: a new shell */
    }
}

static size_t size(const unsigned char *frame) { return FRAME_HEAD + u32_at(frame + 1); }

/* How much of a frame comes before its text. */
static size_t before_text(const unsigned char *frame) {
    switch (*frame) {
    case 'O':
        return FRAME_HEAD + 8;
    case 'W':
        return FRAME_HEAD + 26 + u32_at(frame + FRAME_HEAD + 22);
    case 'T':
    case 'C':
        return FRAME_HEAD + 12;
    case 'X':
        return FRAME_HEAD + 16;
    default:
        return FRAME_HEAD;
    }
}

static uint64_t text_length(const unsigned char *frame) { return size(frame) - before_text(frame); }

static uint64_t cost(const unsigned char *frame) {
    switch (*frame) {
    case 'O':
        return text_length(frame);
    case 'W': /* and the place it leads to */
        return EVENT_COST + size(frame) - FRAME_HEAD - 26;
    case 'X':
    case 'T':
    case 'C':
        return EVENT_COST + text_length(frame);
    default:
        return EVENT_COST / 2;
    }
}

static void left_out(const unsigned char *frame, uint64_t n) {
    if (*frame == 'O') {
        shown_out += n;
        cut += n;
    } else {
        recorded_out += n;
        if (*frame == 'W' && frame[FRAME_HEAD + 13] & 0x7f) cut += n; /* where it led: 0 is the terminal */
    }
}

/* The oldest frame of a kind that the tail holds. */
static unsigned char *oldest(enum kind kind) {
    struct share *share = &shares[kind];
    while (share->oldest < tail.end) {
        unsigned char *frame = tail.data + share->oldest;
        if (*frame && kind_of(*frame) == kind) return frame;
        share->oldest += size(frame);
    }
    return NULL;
}

static void drop(unsigned char *frame) {
    shares[kind_of(*frame)].tailed -= cost(frame);
    left_out(frame, text_length(frame));
    dropped += size(frame);
    *frame = 0;
}

/* Clears away what was dropped. Nobody may hold a mark. */
static void tidy(void) {
    if (dropped < 1 << 16 || dropped < tail.end / 2) return;
    size_t to = 0;
    for (size_t from = 0, n; from < tail.end; from += n) {
        n = size(tail.data + from);
        if (!tail.data[from]) continue;
        memmove(tail.data + to, tail.data + from, n);
        to += n;
    }
    tail.end = to;
    dropped = 0;
    for (int k = 0; k < KINDS; k++) shares[k].oldest = 0;
}

static void set_size(unsigned char *frame, size_t n) {
    for (int i = 0; i < 4; i++) frame[1 + i] = (unsigned char)((n - FRAME_HEAD) >> (8 * i));
}

/* The first frame that the head has no room for: text is divided, the rest of a trace line as its continuation. */
static void turn_to_tail(struct share *share) {
    unsigned char *frame = head->data + head->start + begun;
    size_t whole = size(frame), front = before_text(frame), keep = 0;
    uint64_t room = share->limit / 2 - share->headed, overhead = cost(frame) - text_length(frame);
    if (kind_of(*frame) != PROGRAMS && room > overhead) keep = (size_t)(room - overhead);
    late = true;
    unsigned char *copy = buffer_room(&tail, whole);
    memcpy(copy, frame, front);
    memcpy(copy + front, frame + front + keep, whole - front - keep);
    set_size(copy, whole - keep);
    tail.end += whole - keep;
    if (keep) {
        if (*copy == 'T') *copy = 'C';
        set_size(frame, front + keep);
        share->headed += cost(frame);
        head->end -= whole - front - keep;
    } else {
        head->end -= whole;
    }
    share->tailed += cost(copy);
}

struct buffer *record_open(char type) {
    at = late ? &tail : head;
    begun = at->end - at->start;
    frame_open(at, type);
    return at;
}

void record_close(void) {
    frame_close(at);
    const unsigned char *frame = at->data + at->start + begun;
    enum kind kind = kind_of(*frame);
    if (kind == KINDS) return;
    struct share *share = &shares[kind];
    if (!late) {
        if (share->headed + cost(frame) <= share->limit / 2) {
            share->headed += cost(frame);
            return;
        }
        turn_to_tail(share);
    } else {
        share->tailed += cost(frame);
    }
    unsigned char *first; /* one that fits in part stays, and is shortened in the end */
    while ((first = oldest(kind)) && share->tailed - cost(first) >= share->limit - share->headed) drop(first);
    if (kind == OUTPUT) tidy(); /* marks are made for other kinds */
}

static void send_tails(void) {
    uint64_t excess[KINDS] = {0};
    for (int k = 0; k < KINDS; k++) {
        struct share *share = &shares[k];
        unsigned char *first = oldest((enum kind)k);
        if (!first || share->tailed <= share->limit - share->headed) continue;
        excess[k] = share->tailed - (share->limit - share->headed);
        bool divisible = *first == 'O' || *first == 'W' || *first == 'X';
        if (divisible && excess[k] < text_length(first)) left_out(first, excess[k]);
        else drop(first); /* the end of a trace line might pass for a whole one */
    }
    if (shown_out || recorded_out) {
        frame_open(head, 'L');
        put_u64(head, shown_out);
        put_u64(head, recorded_out);
        frame_close(head);
    }
    for (size_t from = 0; from < tail.end; from += size(tail.data + from)) {
        const unsigned char *frame = tail.data + from;
        enum kind kind = kind_of(*frame);
        if (!*frame) continue;
        size_t less = kind < KINDS && from == shares[kind].oldest ? (size_t)excess[kind] : 0;
        size_t n = size(frame), front = before_text(frame), skip = *frame == 'X' ? 0 : less; /* arguments lose their end */
        size_t copied = head->end - head->start;
        buffer_add(head, frame, front);
        set_size(head->data + head->start + copied, n - less);
        buffer_add(head, frame + front + skip, n - front - less);
    }
}

void record_begin(struct buffer *out, struct limits limits) {
    head = out;
    send_tails();
    if (tail.capacity > 1 << 20) {
        free(tail.data);
        tail = (struct buffer){0};
    }
    tail.start = tail.end = dropped = 0;
    late = false;
    shown_out = recorded_out = 0;
    memset(shares, 0, sizeof shares);
    shares[OUTPUT].limit = limits.shown;
    shares[TEXT].limit = shares[PROGRAMS].limit = limits.recorded;
}

void record_lost(uint64_t n, bool on_terminal) {
    recorded_out += n;
    if (!on_terminal) cut += n;
}

uint64_t record_take_cut(void) {
    uint64_t n = cut;
    cut = 0;
    return n;
}

struct record_mark record_mark(void) {
    tidy();
    return (struct record_mark){head->end - head->start, tail.end};
}

bool record_since(const struct record_mark *mark) {
    return head->end - head->start > mark->head || tail.end > mark->tail;
}

void record_take_back(const struct record_mark *mark) {
    for (size_t i = mark->head; i < head->end - head->start;) {
        const unsigned char *frame = head->data + head->start + i;
        if (kind_of(*frame) < KINDS) shares[kind_of(*frame)].headed -= cost(frame);
        i += size(frame);
    }
    for (size_t i = mark->tail; i < tail.end; i += size(tail.data + i)) {
        const unsigned char *frame = tail.data + i;
        if (!*frame) dropped -= size(frame);
        else if (kind_of(*frame) < KINDS) shares[kind_of(*frame)].tailed -= cost(frame);
    }
    head->end = head->start + mark->head;
    tail.end = mark->tail;
    for (int k = 0; k < KINDS; k++)
        if (shares[k].oldest > tail.end) shares[k].oldest = tail.end;
}
