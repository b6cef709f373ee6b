#include "pool.h"

/* Looks at a crowd before the pool grows: one can be the moment between a request and its worker. */
#define CROWDED_LOOKS 2

struct census {
    unsigned serving; /* told nothing, and not parked */
    unsigned parked;
    unsigned lasting; /* serving and not old, parked ones not included */
    unsigned coming;
    unsigned present; /* all that are not leaving */
};

static struct census count_members(const struct pool_member *members, unsigned count)
{
    struct census census = {0};
    for (unsigned i = 0; i < count; i++) {
        const struct pool_member *member = &members[i];
        bool ready = member->state == CHILD_READY;
        census.serving += ready && !member->parked;
        census.parked += ready && member->parked && !member->old;
        census.lasting += ready && !member->parked && !member->old;
        census.coming += member->state == CHILD_STARTING && !member->old;
        census.present += ready || member->state == CHILD_STARTING;
    }
    return census;
}

/* How willingly a member is parted with; 0: not at all. */
static unsigned rank_leaving(const struct pool_member *member)
{
    if (member->state != CHILD_READY || member->parked)
        return 0;
    return (member->old ? 4u : 1u) + (member->busy ? 0u : 1u);
}

static unsigned pick_leaving(const struct pool_member *members, unsigned count)
{
    unsigned picked = 0;
    for (unsigned i = 0; i < count; i++)
        if (rank_leaving(&members[i]) > 0 && rank_leaving(&members[i]) >= rank_leaving(&members[picked]))
            picked = i;
    return picked;
}

static bool find_parked(const struct pool_member *members, unsigned count, bool old, unsigned *found)
{
    for (unsigned i = 0; i < count; i++)
        if (members[i].state == CHILD_READY && members[i].parked && members[i].old == old) {
            *found = i;
            return true;
        }
    return false;
}

static bool find_free(const struct pool_member *members, unsigned count, unsigned *found)
{
    for (unsigned i = 0; i < count; i++)
        if (members[i].state == CHILD_NONE) {
            *found = i;
            return true;
        }
    return false;
}

struct pool_step pool_next(const struct pool *pool, const struct pool_member *members, unsigned count,
                           bool may_bear)
{
    struct census census = count_members(members, count);
    unsigned wanted = pool->target + pool->spare, member = 0;
    if (census.lasting < pool->target && find_parked(members, count, false, &member))
        return (struct pool_step){POOL_SERVE, member};
    if (find_parked(members, count, true, &member) ||
        (census.parked > pool->spare && find_parked(members, count, false, &member)))
        return (struct pool_step){POOL_LEAVE, member};
    if (census.serving > pool->target)
        return (struct pool_step){POOL_LEAVE, pick_leaving(members, count)};
    if (may_bear && census.lasting + census.parked + census.coming < wanted &&
        census.present < wanted + POOL_SURGE && find_free(members, count, &member))
        return (struct pool_step){POOL_BIRTH, member};
    return (struct pool_step){POOL_NOTHING, 0};
}

/* --- the target --- */

static void begin_window(struct pool *pool, uint64_t now)
{
    pool->since = now;
    pool->least_idle = UINT32_MAX;
}

static bool set_target(struct pool *pool, unsigned target, uint64_t now)
{
    bool changed = target != pool->target;
    pool->target = target;
    pool->crowded = 0;
    begin_window(pool, now);
    return changed;
}

/* By a quarter, so that a rush is met within a few looks. */
static bool grow(struct pool *pool, uint64_t now)
{
    unsigned step = pool->target / 4 > 0 ? pool->target / 4 : 1;
    return set_target(pool, step < pool->max - pool->target ? pool->target + step : pool->max, now);
}

/* Half of those that were never needed at the same time: the load may be about to come back. */
static bool shrink(struct pool *pool, uint64_t now)
{
    unsigned step = (pool->least_idle + 1) / 2;
    return set_target(pool, step < pool->target - pool->min ? pool->target - step : pool->min, now);
}

bool pool_look(struct pool *pool, const struct pool_sight *sight, uint64_t now, uint64_t idle_timeout)
{
    unsigned idle = sight->serving - sight->busy;
    bool crowd = sight->waiting && idle == 0 && sight->serving >= pool->target && sight->starting == 0;
    if (pool->since == 0)
        begin_window(pool, now);
    pool->crowded = crowd ? pool->crowded + 1 : 0;
    if (idle < pool->least_idle)
        pool->least_idle = idle;
    if (pool->crowded >= CROWDED_LOOKS && pool->target < pool->max)
        return grow(pool, now);
    if (now - pool->since < idle_timeout)
        return false;
    if (pool->least_idle > 0 && pool->target > pool->min)
        return shrink(pool, now);
    begin_window(pool, now);
    return false;
}

void pool_set_bounds(struct pool *pool, unsigned min, unsigned max)
{
    pool->min = min;
    pool->max = max;
    pool->target = pool->target < min ? min : pool->target > max ? max : pool->target;
    pool->crowded = 0;
    pool->since = 0;
}
