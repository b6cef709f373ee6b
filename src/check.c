#include "check.h"

#include <stdbool.h>
#include <stdint.h>

#define LARGEST_MAX_DEPTH 64

/* The whole size in bytes of a value whose first byte tells it; 0 for the others. */
// clang-format off
static const unsigned char fixed_size[256] = {
    [0x00 ... 0x7f] = 1,                                                /* positive fixint */
    [0xa0] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,     /* fixstr */
    [0xb0] = 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    [0xc0] = 1,                                                         /* nil */
    [0xc2] = 1, 1,                                                      /* false, true */
    [0xca] = 5, 9,                                                      /* float 32, 64 */
    [0xcc] = 2, 3, 5, 9,                                                /* uint 8 .. 64 */
    [0xd0] = 2, 3, 5, 9,                                                /* int 8 .. 64 */
    [0xd4] = 3, 4, 6, 10, 18,                                           /* fixext 1 .. 16 */
    [0xe0 ... 0xff] = 1,                                                /* negative fixint */
};
// clang-format on

struct walk {
    const unsigned char *at;
    const unsigned char *end;
    unsigned depth;
    unsigned max_depth;
    size_t
        missing[LARGEST_MAX_DEPTH + 1]; /* values still to come, by depth; [0] counts the outermost value */
};

static size_t bytes_left(const struct walk *walk)
{
    return (size_t)(walk->end - walk->at);
}

/* Skips a value of fixed size and all neighbours of the same size: in a run the next address does not wait
 * for a look at the bytes, which is what makes a long array of numbers cheap. */
static enum check_result skip_fixed(struct walk *walk, size_t size)
{
    const unsigned char *at = walk->at;
    const unsigned char *end = walk->end;
    size_t missing = walk->missing[walk->depth];
    if (bytes_left(walk) < size)
        return CHECK_MALFORMED;
    do {
        at += size;
        missing--;
    } while (missing > 0 && (size_t)(end - at) >= size && fixed_size[*at] == size);
    walk->at = at;
    walk->missing[walk->depth] = missing;
    return CHECK_OK;
}

/* Reads the format byte and the big-endian number of `width` bytes behind it. */
static bool read_header(struct walk *walk, size_t width, size_t *number)
{
    if (bytes_left(walk) < 1 + width)
        return false;
    *number = 0;
    for (size_t i = 1; i <= width; i++)
        *number = *number << 8 | walk->at[i];
    walk->at += 1 + width;
    return true;
}

/* str, bin and ext: `extra` bytes stand between the length and the content. */
static enum check_result skip_sized(struct walk *walk, size_t width, size_t extra)
{
    size_t length;
    if (!read_header(walk, width, &length) || bytes_left(walk) < length + extra)
        return CHECK_MALFORMED;
    walk->at += length + extra;
    walk->missing[walk->depth]--;
    return CHECK_OK;
}

/* Every element takes at least one byte, so a count beyond the bytes left needs no walk to be refused. */
static enum check_result enter(struct walk *walk, size_t elements)
{
    if (elements > bytes_left(walk))
        return CHECK_MALFORMED;
    if (walk->depth == walk->max_depth)
        return CHECK_TOO_DEEP;
    walk->missing[walk->depth]--;
    walk->missing[++walk->depth] = elements;
    return CHECK_OK;
}

static enum check_result enter_small(struct walk *walk, size_t values_per_element)
{
    size_t count = *walk->at++ & 0x0f;
    return enter(walk, count * values_per_element);
}

static enum check_result enter_sized(struct walk *walk, size_t width, size_t values_per_element)
{
    size_t count;
    if (!read_header(walk, width, &count))
        return CHECK_MALFORMED;
    return enter(walk, count * values_per_element);
}

/* At least one byte is left. */
static enum check_result step(struct walk *walk)
{
    unsigned char format = *walk->at;
    if (fixed_size[format] != 0)
        return skip_fixed(walk, fixed_size[format]);
    switch (format) {
    case 0x80 ... 0x8f: /* fixmap */
        return enter_small(walk, 2);
    case 0x90 ... 0x9f: /* fixarray */
        return enter_small(walk, 1);
    case 0xc4: /* bin 8 */
    case 0xd9: /* str 8 */
        return skip_sized(walk, 1, 0);
    case 0xc5: /* bin 16 */
    case 0xda: /* str 16 */
        return skip_sized(walk, 2, 0);
    case 0xc6: /* bin 32 */
    case 0xdb: /* str 32 */
        return skip_sized(walk, 4, 0);
    case 0xc7: /* ext 8 .. 32: one byte of type */
        return skip_sized(walk, 1, 1);
    case 0xc8:
        return skip_sized(walk, 2, 1);
    case 0xc9:
        return skip_sized(walk, 4, 1);
    case 0xdc: /* array 16, 32 */
        return enter_sized(walk, 2, 1);
    case 0xdd:
        return enter_sized(walk, 4, 1);
    case 0xde: /* map 16, 32 */
        return enter_sized(walk, 2, 2);
    case 0xdf:
        return enter_sized(walk, 4, 2);
    default: /* 0xc1 */
        return CHECK_MALFORMED;
    }
}

enum check_result check_value(const unsigned char *data, size_t size, unsigned max_depth, size_t *length)
{
    if (size == 0)
        return CHECK_MALFORMED;
    struct walk walk;
    walk.at = data;
    walk.end = data + size;
    walk.depth = 0;
    walk.max_depth = max_depth < LARGEST_MAX_DEPTH ? max_depth : LARGEST_MAX_DEPTH;
    walk.missing[0] = 1;
    for (;;) {
        while (walk.missing[walk.depth] == 0) {
            if (walk.depth == 0) {
                *length = (size_t)(walk.at - data);
                return CHECK_OK;
            }
            walk.depth--;
        }
        if (walk.at == walk.end)
            return CHECK_MALFORMED;
        enum check_result result = step(&walk);
        if (result != CHECK_OK)
            return result;
    }
}
