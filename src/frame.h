/* PURE. A frame is a length word (4 bytes, big-endian) and that many bytes of msgpack: the body. */
#ifndef FRAME_H
#define FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 4u
/* What the length word of a request buffer holds while nothing has been received into it. No frame can begin
 * with it: --max-frame stays below FRAME_MAX_LIMIT, so that even the first byte of a length word tells them
 * apart. */
#define FRAME_NOTHING   UINT32_C(0xffffffff)
#define FRAME_MAX_LIMIT UINT32_C(0x7fffffff)

static inline uint32_t frame_get_length(const unsigned char header[FRAME_HEADER_SIZE])
{
    return (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 | header[3];
}

static inline void frame_put_length(unsigned char header[FRAME_HEADER_SIZE], uint32_t length)
{
    header[0] = (unsigned char)(length >> 24);
    header[1] = (unsigned char)(length >> 16);
    header[2] = (unsigned char)(length >> 8);
    header[3] = (unsigned char)length;
}

/* What `received` bytes at the start of a buffer hold. */
enum frame_progress {
    FRAME_PARTIAL,  /* the header or the body is incomplete */
    FRAME_COMPLETE, /* the body is there, perhaps with bytes of the next frame behind it */
    FRAME_INVALID,  /* length 0 or above max_length: the stream cannot be read any further */
};

static inline enum frame_progress frame_check(const unsigned char *buffer, size_t received,
                                              uint32_t max_length)
{
    if (received < FRAME_HEADER_SIZE)
        return FRAME_PARTIAL;
    uint32_t length = frame_get_length(buffer);
    if (length == 0 || length > max_length)
        return FRAME_INVALID;
    return received - FRAME_HEADER_SIZE >= length ? FRAME_COMPLETE : FRAME_PARTIAL;
}

#endif
