/* PURE. Load shedding (--max-queue-time), after the manner of CoDel: a queue that drains is no reason to
 * refuse anybody, one that stands is. A worker judges by the requests that it takes up itself: they come from
 * the one queue of all workers, first come, first served, so that their waits are samples of its length. No
 * state is shared.
 *
 * The waits are what clients say. A request is refused only where its own wait is too long; what others say
 * decides no more than whether a short burst is let pass, and there they are weighed by time, so that a few
 * who lie decide nothing. */
#ifndef SHED_H
#define SHED_H

#include <stdbool.h>
#include <stdint.h>

/* The least time for which waits must have been too long, ns; else it is the target. */
#define SHED_INTERVAL_MIN UINT64_C(100000000)

/* All zeros is the start. */
struct shed {
    uint64_t looked_at; /* at the last request whose wait was known */
    uint64_t pressure;  /* for how long waits were above the target, less for how long they were not; ns */
};

/* Whether to refuse a request that is taken up now and has waited for so long; 0: nobody knows. All in ns. */
bool shed_look(struct shed *shed, uint64_t now, uint64_t wait, uint64_t target);

#endif
