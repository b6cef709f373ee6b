#include "children.h"

#include <stdio.h>

#define FAILURES_FREE 3
#define BACKOFF_FIRST UINT64_C(100000000)
#define BACKOFF_LAST  UINT64_C(5000000000)
/* A process that lived this long was of use, whatever it did. */
#define LIFE_LASTING UINT64_C(1000000000)

uint64_t backoff_delay(unsigned failures)
{
    if (failures <= FAILURES_FREE)
        return 0;
    uint64_t delay = BACKOFF_FIRST;
    for (unsigned i = FAILURES_FREE + 1; i < failures && delay < BACKOFF_LAST; i++)
        delay *= 2;
    return delay < BACKOFF_LAST ? delay : BACKOFF_LAST;
}

void backoff_note(struct backoff *backoff, const struct life *life)
{
    bool useful = life->served && (life->answered > 0 || life->ended_at - life->born_at >= LIFE_LASTING);
    backoff->retry_at = life->ended_at;
    if (useful)
        backoff->failures = 0;
    else if (!(life->served && life->killed))
        backoff->retry_at += backoff_delay(++backoff->failures);
}

void child_begin(struct child *child, unsigned generation, uint64_t now)
{
    child->state = CHILD_STARTING;
    child->pid = 0;
    child->generation = generation;
    child->born_at = now;
    child->stopped = false;
}

void child_ready(struct child *child)
{
    child->state = CHILD_READY;
}

void child_end(struct child *child, uint64_t now, uint64_t answered, bool killed)
{
    struct life life = {.served = child->state == CHILD_READY || child->state == CHILD_LEAVING,
                        .killed = killed,
                        .born_at = child->born_at,
                        .ended_at = now,
                        .answered = answered};
    backoff_note(&child->backoff, &life);
    child->state = CHILD_NONE;
    child->pid = 0;
    child->stopped = false;
}

bool child_due(const struct child *child, uint64_t now)
{
    return child->state == CHILD_NONE && now >= child->backoff.retry_at;
}

const char *child_label(const struct child *child, char *label, size_t size)
{
    if (child->pid > 0)
        snprintf(label, size, "worker %u (pid %d)", child->number, (int)child->pid);
    else
        snprintf(label, size, "worker %u", child->number);
    return label;
}
