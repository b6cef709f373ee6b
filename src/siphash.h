/* PURE. SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): a keyed hash, so that
 * nobody who lacks the key can make two requests that look the same. */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Of two byte strings, one behind the other. */
uint64_t siphash(const uint64_t key[2], const void *first, size_t first_size, const void *second,
                 size_t second_size);

#endif
