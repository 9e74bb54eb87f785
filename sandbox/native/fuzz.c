/* Throws frames, torn, twisted and forged, at the frame parser, and floods of events at the record; under the
 * sanitizers any misstep ends it.
 *
 * usage: fuzz ROUNDS SEED. Every round builds a stream of whole frames, feeds it in pieces of any size, and checks that
 * exactly those frames come out; then the same stream with bytes changed, where only memory is at stake. Then a record
 * of random limits takes events, some taken back: what comes out is in order, within the limits, and with what was
 * counted as left out makes up all that went in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "record.h"

static uint64_t state;

static uint32_t draw(uint32_t below) { /* xorshift: the same on every machine */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

/* Reads a payload as every request does, in an order drawn at random, past its end if it comes so. */
static void read_wildly(struct reader r) {
    size_t length = read_left(&r);
    for (int i = 0; i < 12; i++) {
        switch (draw(5)) {
        case 0:
            read_u8(&r);
            break;
        case 1:
            read_u32(&r);
            break;
        case 2:
            read_u64(&r);
            break;
        case 3: {
            const unsigned char *bytes = read_bytes(&r, draw(64));
            if (bytes && bytes > r.end) fail("bytes beyond the end");
            break;
        }
        default:
            if (read_bytes(&r, (size_t)-1 - draw(16))) fail("a length that wraps");
        }
        if (read_left(&r) > length) fail("the reader ran backwards");
    }
}

static size_t frames_of(const unsigned char *stream, size_t n, bool wild, size_t *payload_bytes) {
    struct buffer in = {0};
    size_t frames = 0;
    for (size_t at = 0; at < n;) {
        size_t piece = 1 + draw(97);
        if (piece > n - at) piece = n - at;
        buffer_add(&in, stream + at, piece);
        at += piece;
        char type;
        struct reader r;
        enum frame_state got;
        while ((got = frame_next(&in, &type, &r)) == FRAME_READY) {
            frames++;
            *payload_bytes += read_left(&r);
            read_wildly(r);
        }
        if (got == FRAME_MALFORMED) {
            if (!wild) fail("a good frame refused");
            break;
        }
    }
    free(in.data);
    return frames;
}

static const char types[] = "OWTCXEN";

/* Bytes of text in a payload of that type. */
static uint64_t text_in(char type, struct reader r) {
    size_t fixed = type == 'O' ? 8 : type == 'W' ? 26 : type == 'X' ? 16 : type == 'T' || type == 'C' ? 12 : 0;
    read_bytes(&r, type == 'W' ? 22 : fixed);
    if (type == 'W') read_bytes(&r, read_u32(&r));
    if (r.bad) fail("an event cut into");
    return type == 'E' || type == 'N' ? 0 : read_left(&r);
}

static char add_event(uint64_t number, uint64_t *text) {
    char type = types[draw(sizeof types - 1)];
    struct buffer *out = record_open(type);
    if (type == 'N') {
        put_u32(out, (uint32_t)number);
        put_u32(out, 1);
    } else {
        put_u64(out, number);
    }
    if (type != 'O' && type != 'N') put_u32(out, 7);
    if (type == 'X' || type == 'E') put_u32(out, 8);
    if (type == 'W') {
        put_u8(out, 2);
        put_u8(out, (uint8_t)draw(7));
        put_u64(out, 9);
        put_u32(out, 3);
        buffer_add(out, "pip", 3);
    }
    uint32_t n = type == 'E' || type == 'N' ? 0 : draw(draw(8) ? 40 : 3000);
    for (uint32_t i = 0; i < n; i++) put_u8(out, 'x');
    *text = n;
    record_close();
    return type;
}

static void flood_record(void) {
    struct buffer out = {0};
    struct limits limits = {draw(4000), draw(4000)};
    uint64_t written[2] = {0}, kept[2] = {0}, left[2] = {0}, last = 0, small = 0;
    record_begin(&out, limits);
    uint32_t events = draw(300);
    for (uint64_t number = 1; number <= events; number++) {
        struct record_mark mark = record_mark();
        uint64_t text;
        char type = add_event(number, &text);
        if (!record_since(&mark) && type == 'B') fail("an event not taken");
        bool dropped = draw(10) == 0 && limits.shown && limits.recorded && text < limits.recorded / 2;
        if (dropped && type != 'O') record_take_back(&mark);
        else written[type == 'O'] += text;
        small += type == 'E' || type == 'N';
    }
    record_begin(&out, limits);
    char type;
    struct reader r;
    while (frame_next(&out, &type, &r) == FRAME_READY) {
        if (type == 'L') {
            left[1] = read_u64(&r);
            left[0] = read_u64(&r);
            continue;
        }
        kept[type == 'O'] += text_in(type, r);
        uint64_t number = type == 'N' ? read_u32(&r) : read_u64(&r);
        if (number < last) fail("events out of order");
        last = number;
    }
    if (out.end != out.start) fail("a torn record");
    if (kept[1] > limits.shown || kept[0] > 2 * limits.recorded) fail("more kept than the limit");
    if (kept[1] + left[1] != written[1]) fail("output neither kept nor counted");
    uint64_t all = kept[0] + left[0]; /* the small ones have no text but count by their size */
    if (all < written[0] || all > written[0] + 16 * small) fail("events neither kept nor counted");
    free(out.data);
    record_take_cut();
    static struct buffer nowhere;
    record_begin(&nowhere, limits);
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 20000;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252ull;
    for (long round = 0; round < rounds; round++) {
        struct buffer out = {0};
        size_t frames = draw(8), bytes = 0, seen = 0;
        for (size_t i = 0; i < frames; i++) {
            frame_open(&out, (char)draw(256));
            for (uint32_t k = draw(40); k; k--) {
                switch (draw(3)) {
                case 0:
                    put_u8(&out, (uint8_t)draw(256));
                    bytes += 1;
                    break;
                case 1:
                    put_u32(&out, draw(UINT32_MAX));
                    bytes += 4;
                    break;
                default:
                    put_u64(&out, state);
                    bytes += 8;
                }
            }
            frame_close(&out);
        }
        size_t n = out.end - out.start;
        if (frames_of(out.data + out.start, n, false, &seen) != frames || seen != bytes) fail("frames lost or torn");
        for (uint32_t k = n ? draw(6) : 0; k; k--) out.data[out.start + draw((uint32_t)n)] = (unsigned char)draw(256);
        frames_of(out.data + out.start, n, true, &seen);
        free(out.data);
        if (round % 10 == 0) flood_record();
    }
    printf("%ld rounds\n", rounds);
    return 0;
}
