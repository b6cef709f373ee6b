/* PURE. How many workers there should be, and which process is to come, serve or leave next. The master asks
 * pool_next() until there is nothing to do, and carries each step out; pool_look() moves the target between
 * its bounds, as the load has it.
 *
 * Two rules hold at every step: a worker is told to leave only while more than the target serve, and there is
 * at most one process more than needed (POOL_SURGE), so that workers are replaced one by one. */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "children.h"

/* Processes beyond those that are wanted, while some are replaced. */
#define POOL_SURGE 1u

struct pool {
    unsigned min, max; /* of workers that serve, both from 1 on; max >= min */
    unsigned spare;    /* workers that wait, started, to take a dead one's place */
    unsigned target;   /* workers that are wanted now: from min to max */
    unsigned crowded;  /* looks in a row at which requests waited and nobody was idle */
    unsigned least_idle;
    uint64_t since; /* when least_idle was begun to be taken: CLOCK_MONOTONIC, ns; 0: not yet */
};

/* A worker's place, as far as it matters here. */
struct pool_member {
    enum child_state state;
    bool parked; /* ready, but not serving yet */
    bool old;    /* to be replaced: of an engine that is being replaced, or due for recycling */
    bool busy;
};

enum pool_action {
    POOL_NOTHING,
    POOL_BIRTH, /* a new process in this place, which has none */
    POOL_SERVE, /* a parked one begins to serve */
    POOL_LEAVE, /* told to leave once idle */
};

struct pool_step {
    enum pool_action action;
    unsigned member; /* index */
};

/* The next step. may_bear: whether a birth may be asked for now. */
struct pool_step pool_next(const struct pool *pool, const struct pool_member *members, unsigned count,
                           bool may_bear);

/* What the pool looks like at one moment. */
struct pool_sight {
    unsigned serving, busy, starting;
    bool waiting; /* requests that nobody has taken */
};

/* Sets the target. idle_timeout: how long workers must have had nothing to do before they leave, ns. Returns
 * whether it has changed. */
bool pool_look(struct pool *pool, const struct pool_sight *sight, uint64_t now, uint64_t idle_timeout);
/* Sets new bounds, and the target to what they allow. */
void pool_set_bounds(struct pool *pool, unsigned min, unsigned max);

#endif
