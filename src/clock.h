/* The one clock of deadlines and ages. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_S UINT64_C(1000000000)

/* CLOCK_MONOTONIC in ns. Cannot fail on Linux; no system call where the vDSO has the clock. */
static inline uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Seconds as ns; at most 10^9 s, so that sums cannot overflow. NaN and negative values are 0. */
static inline uint64_t clock_from_seconds(double seconds)
{
    if (!(seconds > 0))
        return 0;
    return (uint64_t)((seconds < 1e9 ? seconds : 1e9) * 1e9);
}

#endif
