#include "children.h"

#include <stdio.h>

#define BACKOFF_FIRST UINT64_C(100000000)
#define BACKOFF_LAST  UINT64_C(5000000000)

uint64_t children_backoff(unsigned failures)
{
    if (failures == 0)
        return 0;
    uint64_t delay = BACKOFF_FIRST;
    for (unsigned i = 1; i < failures && delay < BACKOFF_LAST; i++)
        delay *= 2;
    return delay < BACKOFF_LAST ? delay : BACKOFF_LAST;
}

void child_begin(struct child *child, unsigned generation, uint64_t now)
{
    child->state = CHILD_STARTING;
    child->birth++;
    child->pid = 0;
    child->generation = generation;
    child->born_at = now;
    child->stopped = false;
}

void child_ready(struct child *child)
{
    child->state = CHILD_READY;
    child->failures = 0;
}

bool child_end(struct child *child, uint64_t now)
{
    bool was_ready = child->state == CHILD_READY || child->state == CHILD_LEAVING;
    child->state = CHILD_NONE;
    child->pid = 0;
    child->stopped = false;
    if (!was_ready)
        child->failures++;
    child->retry_at = was_ready ? 0 : now + children_backoff(child->failures);
    return was_ready;
}

bool child_due(const struct child *child, uint64_t now)
{
    return child->state == CHILD_NONE && now >= child->retry_at;
}

const char *child_label(const struct child *child, char *label, size_t size)
{
    if (child->pid > 0)
        snprintf(label, size, "worker %u (pid %d)", child->number, (int)child->pid);
    else
        snprintf(label, size, "worker %u", child->number);
    return label;
}
