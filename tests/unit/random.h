/* Repeatable random numbers for property tests: the same walk in every run, so that a failure can be
 * followed.
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t word; /* not 0 */
};

/* xorshift64*; its high bits are the good ones. */
static inline uint64_t random_next(struct random *random)
{
    random->word ^= random->word << 13;
    random->word ^= random->word >> 7;
    random->word ^= random->word << 17;
    return random->word * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 .. bound - 1 */
static inline uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)((random_next(random) >> 32) % bound);
}

static inline void random_fill(struct random *random, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)(random_next(random) >> 56);
}

#endif
