/* PURE. Repeatable random numbers, for property tests and for load: the same walk in every run, so that a
 * failure can be followed. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t word; /* not 0 */
};

/* Any seed will do, 0 too, and seeds that are neighbours lead apart: the seed goes through a step of
 * splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). */
static inline struct random random_seeded(uint64_t seed)
{
    seed += UINT64_C(0x9e3779b97f4a7c15);
    seed = (seed ^ seed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    seed = (seed ^ seed >> 27) * UINT64_C(0x94d049bb133111eb);
    seed ^= seed >> 31;
    return (struct random){seed ? seed : 1};
}

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016); its high bits
 * are the good ones. */
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

/* Both included; low is at most high. */
static inline int64_t random_between(struct random *random, int64_t low, int64_t high)
{
    unsigned __int128 range = (unsigned __int128)((uint64_t)high - (uint64_t)low) + 1;
    return (int64_t)((uint64_t)low + (uint64_t)(range * random_next(random) >> 64));
}

/* Above 0, at most 1. */
static inline double random_unit(struct random *random)
{
    return (double)((random_next(random) >> 11) + 1) * 0x1p-53;
}

static inline void random_fill(struct random *random, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)(random_next(random) >> 56);
}

#endif
