#include "arrivals.h"

#include <math.h>

/* A constant rate is computed from the count, so that errors of rounding do not add up. */
void arrivals_step(struct arrivals *arrivals)
{
    arrivals->count++;
    if (arrivals->poisson)
        arrivals->offset -= log(random_unit(&arrivals->random)) * arrivals->gap;
    else
        arrivals->offset = (double)arrivals->count * arrivals->gap;
    arrivals->next = arrivals->start + (uint64_t)arrivals->offset;
}

struct arrivals arrivals_begin(uint64_t start, double per_second, bool poisson, uint64_t seed)
{
    struct arrivals arrivals = {
        .next = start,
        .start = start,
        .gap = 1e9 / per_second,
        .poisson = poisson,
        .random = random_seeded(seed),
    };

    if (poisson) {
        arrivals_step(&arrivals);
        arrivals.count = 0;
    }
    return arrivals;
}
