/* Frames: how host and box talk. frames.h says how they look. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

unsigned char *buffer_room(struct buffer *b, size_t n) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->capacity - b->end < n && b->start) {
        memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (b->capacity - b->end < n) {
        size_t capacity = b->capacity ? b->capacity : 4096;
        while (capacity - b->end < n) capacity *= 2;
        unsigned char *data = realloc(b->data, capacity);
        if (!data) abort();
        b->data = data;
        b->capacity = capacity;
    }
    return b->data + b->end;
}

void buffer_add(struct buffer *b, const void *bytes, size_t n) {
    if (!n) return;
    memcpy(buffer_room(b, n), bytes, n);
    b->end += n;
}

uint32_t u32_at(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

enum frame_state frame_next(struct buffer *in, char *type, struct reader *payload) {
    size_t held = in->end - in->start;
    if (held < FRAME_HEAD) return FRAME_WANTS_MORE;
    const unsigned char *head = in->data + in->start;
    uint32_t length = u32_at(head + 1);
    if (length > FRAME_MAX) return FRAME_MALFORMED;
    if (held - FRAME_HEAD < length) return FRAME_WANTS_MORE;
    *type = (char)head[0];
    *payload = (struct reader){head + FRAME_HEAD, head + FRAME_HEAD + length, false};
    in->start += FRAME_HEAD + length;
    return FRAME_READY;
}

size_t read_left(const struct reader *r) { return (size_t)(r->end - r->at); }

const unsigned char *read_bytes(struct reader *r, size_t n) {
    if (n > read_left(r)) {
        r->bad = true;
        return NULL;
    }
    const unsigned char *bytes = r->at;
    r->at += n;
    return bytes;
}

uint8_t read_u8(struct reader *r) {
    const unsigned char *p = read_bytes(r, 1);
    return p ? *p : 0;
}

uint32_t read_u32(struct reader *r) {
    const unsigned char *p = read_bytes(r, 4);
    return p ? u32_at(p) : 0;
}

uint64_t read_u64(struct reader *r) {
    uint64_t low = read_u32(r);
    return low | (uint64_t)read_u32(r) << 32;
}

/* Where the open frame began, from the buffer's start: the data may move as it grows. */
static size_t opened;

void frame_open(struct buffer *out, char type) {
    opened = out->end - out->start;
    unsigned char head[FRAME_HEAD] = {(unsigned char)type};
    if (!opened) out->start = out->end = 0;
    buffer_add(out, head, sizeof head);
}

void frame_close(struct buffer *out) {
    unsigned char *head = out->data + out->start + opened;
    uint32_t length = (uint32_t)(out->end - out->start - opened - FRAME_HEAD);
    for (int i = 0; i < 4; i++) head[1 + i] = (unsigned char)(length >> (8 * i));
}

void put_u8(struct buffer *out, uint8_t value) { buffer_add(out, &value, 1); }

void put_u32(struct buffer *out, uint32_t value) {
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    buffer_add(out, bytes, 4);
}

void put_u64(struct buffer *out, uint64_t value) {
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}
