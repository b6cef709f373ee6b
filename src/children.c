#include "children.h"

#include <stdio.h>

#define FAILURES_FREE 3
#define BACKOFF_FIRST UINT64_C(100000000)
#define BACKOFF_LAST  UINT64_C(5000000000)
/* A process that lived this long was of use, whatever it did. */
#define LIFE_LASTING UINT64_C(1000000000)

uint64_t children_backoff(unsigned failures)
{
    if (failures <= FAILURES_FREE)
        return 0;
    uint64_t delay = BACKOFF_FIRST;
    for (unsigned i = FAILURES_FREE + 1; i < failures && delay < BACKOFF_LAST; i++)
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
}

static void forget_process(struct child *child)
{
    child->state = CHILD_NONE;
    child->pid = 0;
    child->stopped = false;
}

void child_end(struct child *child, uint64_t now, uint64_t answered)
{
    bool was_ready = child->state == CHILD_READY || child->state == CHILD_LEAVING;
    bool useful = was_ready && (answered > 0 || now - child->born_at >= LIFE_LASTING);
    forget_process(child);
    child->failures = useful ? 0 : child->failures + 1;
    child->retry_at = now + children_backoff(child->failures);
}

void child_end_killed(struct child *child, uint64_t now)
{
    forget_process(child);
    child->retry_at = now;
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
