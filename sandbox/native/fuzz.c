/* Throws frames, torn, twisted and forged, at the frame parser; under the sanitizers any misstep ends it.
 *
 * usage: fuzz ROUNDS SEED. Every round builds a stream of whole frames, feeds it in pieces of any size, and checks that
 * exactly those frames come out; then the same stream with bytes changed, where only memory is at stake. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"

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
    }
    printf("%ld rounds\n", rounds);
    return 0;
}
