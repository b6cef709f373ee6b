/* PURE. The bounds of a msgpack value, checked before anything is built from it: what comes from a client or
 * an engine is walked once, left to right, without recursion, without allocation and at a cost linear in its
 * bytes, so that a header that claims four billion elements costs as little to refuse as it cost to send. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>

/* Containers within params (msgpack-c's own parser stops at 32; the envelope's array and params
 * itself are two). */
#define CHECK_MAX_DEPTH 30

enum check_result {
    CHECK_OK,
    CHECK_MALFORMED, /* the bytes end before the value does, or hold the one byte that msgpack never uses
                        (0xc1) */
    CHECK_TOO_DEEP,  /* more than max_depth containers inside one another; max_depth is at most 64 */
};

/* Finds the end of the msgpack value that starts at data. *length is its size in bytes on CHECK_OK, and
 * untouched otherwise. A scalar has depth 0, [] has depth 1. Bytes behind the value are the caller's
 * business. */
enum check_result check_value(const unsigned char *data, size_t size, unsigned max_depth, size_t *length);

#endif
