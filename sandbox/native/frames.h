/* Frames: how host and box talk. One type byte, four length bytes (little endian), the payload.
 *
 * The host asks, the box answers; nothing is sent unasked but the greeting, so neither end can block the
 * other. docs/sandbox.md holds the table of frames; a change of any frame raises PROTOCOL. */
#ifndef FRAMES_H
#define FRAMES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL 3
#define FRAME_MAX (16u << 20)
#define FRAME_HEAD 5u

struct buffer {
    unsigned char *data;
    size_t start, end, capacity; /* bytes [start, end) are held */
};

/* A payload being read. Reading past its end sets `bad` and yields zeros; check once, at the end. */
struct reader {
    const unsigned char *at, *end;
    bool bad;
};

enum frame_state { FRAME_WANTS_MORE, FRAME_READY, FRAME_MALFORMED };

/* Appends n bytes, growing the buffer; aborts when there is no memory. */
void buffer_add(struct buffer *b, const void *bytes, size_t n);
/* Room for n more bytes at the end; move b->end by what was used. */
unsigned char *buffer_room(struct buffer *b, size_t n);

/* Takes the next whole frame off `in`. Its payload stays valid until the next change of the buffer. */
enum frame_state frame_next(struct buffer *in, char *type, struct reader *payload);

uint32_t u32_at(const unsigned char *p);
uint8_t read_u8(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
const unsigned char *read_bytes(struct reader *r, size_t n);
size_t read_left(const struct reader *r);

/* frame_open .. put_* .. frame_close: writes one frame at the end of a buffer. */
void frame_open(struct buffer *out, char type);
void frame_close(struct buffer *out);
void put_u8(struct buffer *out, uint8_t value);
void put_u32(struct buffer *out, uint32_t value);
void put_u64(struct buffer *out, uint64_t value);
#endif
