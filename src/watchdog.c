#include "watchdog.h"

/* Beats in a period: one that comes late does no harm. */
#define BEATS 3

enum watchdog_step watchdog_next(struct watchdog *watchdog, const struct watchdog_view *view, uint64_t now)
{
    if (now < watchdog->next)
        return WATCHDOG_DO_NOTHING;
    bool complete =
        view->calls - watchdog->calls > watchdog->probed; /* a count that shrinks has changed, too */
    bool full = view->busy > 0 && view->overdue == 0;
    if (!complete && !full && !view->answered)
        return view->idle > 0 ? WATCHDOG_DO_PROBE : WATCHDOG_DO_NOTHING;
    watchdog->calls = view->calls;
    watchdog->probed = view->answered;
    watchdog->next = now + watchdog->period / BEATS;
    return WATCHDOG_DO_BEAT;
}
