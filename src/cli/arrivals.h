/* PURE. When the calls of an open loop are to start: at a rate, whatever the server does. */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

#include "random.h"

/* A walk over the times of all arrivals. A copy walks by itself over the same times. */
struct arrivals {
    uint64_t next;  /* CLOCK_MONOTONIC, ns */
    uint64_t count; /* arrivals before that one */
    uint64_t start;
    double gap;    /* ns, on average */
    bool poisson;  /* independent callers: the gaps have an exponential distribution */
    double offset; /* of next, from start */
    struct random random;
};

struct arrivals arrivals_begin(uint64_t start, double per_second, bool poisson, uint64_t seed);
void arrivals_step(struct arrivals *arrivals);

#endif
