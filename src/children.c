#include "children.h"

#include <stdio.h>

/* A process that ends by itself before it is ready is worth three that are killed from outside. */
#define VAIN_OF_ITS_OWN 3
#define BACKOFF_FIRST   UINT64_C(100000000)
#define BACKOFF_LAST    UINT64_C(5000000000)
/* A process that lived this long was of use, whatever it did. */
#define LIFE_LASTING UINT64_C(1000000000)

uint64_t backoff_delay(unsigned failures)
{
    if (failures <= BACKOFF_FREE)
        return 0;
    uint64_t delay = BACKOFF_FIRST;
    for (unsigned i = BACKOFF_FREE + 1; i < failures && delay < BACKOFF_LAST; i++)
        delay *= 2;
    return delay < BACKOFF_LAST ? delay : BACKOFF_LAST;
}

void backoff_note(struct backoff *backoff, const struct life *life)
{
    bool useful = life->served && (life->answered > 0 || life->ended_at - life->born_at >= LIFE_LASTING);
    bool done_to_it = life->served && life->killed;
    bool counted = backoff->failures > 0 && life->born_at < backoff->noted_at;
    if (useful) {
        *backoff = (struct backoff){.retry_at = life->ended_at};
    } else if (done_to_it) {
        backoff->retry_at = life->ended_at;
    } else if (!counted) {
        backoff->noted_at = life->ended_at;
        if (!life->served)
            backoff->vain += life->killed ? 1 : VAIN_OF_ITS_OWN;
        backoff->retry_at = life->ended_at + backoff_delay(++backoff->failures);
    }
}

void backoff_ready(struct backoff *backoff)
{
    backoff->retry_at = 0;
    backoff->vain = 0;
}

bool backoff_probes(const struct backoff *backoff)
{
    return backoff->failures > BACKOFF_FREE;
}

void child_begin(struct child *child, unsigned generation, uint64_t now)
{
    child->state = CHILD_STARTING;
    child->pid = 0;
    child->generation = generation;
    child->born_at = now;
    child->stopped = false;
}

struct life child_end(struct child *child, uint64_t now, uint64_t answered, bool killed)
{
    struct life life = {.served = child->state == CHILD_READY || child->state == CHILD_LEAVING,
                        .killed = killed,
                        .born_at = child->born_at,
                        .ended_at = now,
                        .answered = answered};
    child->state = CHILD_NONE;
    child->pid = 0;
    child->stopped = false;
    return life;
}

const char *child_label(const struct child *child, char *label, size_t size)
{
    if (child->number == 0)
        snprintf(label, size, "stand-in (pid %d)", (int)child->pid);
    else if (child->pid > 0)
        snprintf(label, size, "worker %u (pid %d)", child->number, (int)child->pid);
    else
        snprintf(label, size, "worker %u", child->number);
    return label;
}
