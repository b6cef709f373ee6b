#include "shed.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A request that was first in the queue and has waited for target + t says that the queue was too long for
 * the whole time t, and no more. One request alone decides nothing, however long the worker had none before
 * it. What bounds the pressure has it go away again: after two intervals without long waits nothing is left
 * of it. */
bool shed_look(struct shed *shed, uint64_t now, uint64_t wait, uint64_t target)
{
    uint64_t interval = target > SHED_INTERVAL_MIN ? target : SHED_INTERVAL_MIN;
    if (wait == 0)
        return false;
    uint64_t weight = smaller(now - shed->looked_at, interval / 2);
    shed->looked_at = now;
    if (wait > target)
        shed->pressure = smaller(shed->pressure + smaller(weight, wait - target), 2 * interval);
    else
        shed->pressure -= smaller(weight, shed->pressure);
    return wait > target && shed->pressure >= interval;
}
