#include "deadline.h"

#include "halt.h"

static enum deadline_step enter(struct deadline *deadline, enum deadline_stage stage, uint64_t now,
                                enum deadline_step step)
{
    deadline->stage = stage;
    deadline->since = now;
    return step;
}

static enum deadline_step decide_stopped(struct deadline *deadline, bool runs, bool stopped, uint64_t now)
{
    if (!halt_is_over(stopped, deadline->since, now))
        return DEADLINE_DO_NOTHING;
    return runs ? enter(deadline, DEADLINE_KILLED, now, DEADLINE_DO_KILL)
                : enter(deadline, DEADLINE_NONE, now, DEADLINE_DO_CONTINUE);
}

static bool is_overdue(struct deadline *deadline, const struct row_view *row, uint64_t now, uint64_t longest)
{
    if (deadline->seen != row->request) {
        deadline->seen = row->request;
        deadline->seen_at = now;
    }
    return now >= row->deadline || now - deadline->seen_at >= longest;
}

/* Whether the request that runs is to be ended, and why. The client's absence weighs least: it alone may
 * leave the engine alone. */
static bool is_to_end(struct deadline *deadline, const struct row_view *row,
                      const struct deadline_facts *facts, const struct deadline_limits *limits,
                      enum deadline_why *why)
{
    if (is_overdue(deadline, row, facts->now, limits->longest))
        *why = DEADLINE_PASSED;
    else if (deadline->ordered == row->request && row->request != 0)
        *why = DEADLINE_KILL_ORDERED;
    else if (facts->gone)
        *why = DEADLINE_CLIENT_GONE;
    else
        return false;
    return true;
}

static enum deadline_step flag(struct deadline *deadline, const struct row_view *row, enum deadline_why why,
                               uint64_t now)
{
    deadline->request = row->request;
    deadline->why = why;
    return enter(deadline, DEADLINE_FLAGGED, now, DEADLINE_DO_FLAG);
}

static bool grace_is_over(const struct deadline *deadline, const struct deadline_limits *limits, uint64_t now)
{
    bool lenient = deadline->stage == DEADLINE_FLAGGED && deadline->why == DEADLINE_CLIENT_GONE;
    if (lenient && limits->cancel_kill == 0)
        return false;
    return now - deadline->since >= (lenient ? limits->cancel_kill : limits->grace);
}

static enum deadline_step decide_running(struct deadline *deadline, const struct row_view *row,
                                         const struct deadline_facts *facts,
                                         const struct deadline_limits *limits)
{
    enum deadline_why why;
    bool to_end = is_to_end(deadline, row, facts, limits, &why);
    switch (deadline->stage) {
    case DEADLINE_FLAGGED:
        if (deadline->why == DEADLINE_CLIENT_GONE && to_end && why != DEADLINE_CLIENT_GONE)
            return flag(deadline, row, why, facts->now);
        return grace_is_over(deadline, limits, facts->now)
                   ? enter(deadline, DEADLINE_SIGNALLED, facts->now, DEADLINE_DO_SIGNAL)
                   : DEADLINE_DO_NOTHING;
    case DEADLINE_SIGNALLED:
        return grace_is_over(deadline, limits, facts->now)
                   ? enter(deadline, DEADLINE_STOPPING, facts->now, DEADLINE_DO_STOP)
                   : DEADLINE_DO_NOTHING;
    default:
        return to_end ? flag(deadline, row, why, facts->now) : DEADLINE_DO_NOTHING;
    }
}

enum deadline_step deadline_next(struct deadline *deadline, const struct row_view *row,
                                 const struct deadline_facts *facts, const struct deadline_limits *limits)
{
    bool running = row->valid && row->state == ROW_RUNNING;
    bool same = running && row->request == deadline->request;
    if (deadline->stage == DEADLINE_STOPPING)
        return decide_stopped(deadline, same, facts->stopped, facts->now);
    if (deadline->stage == DEADLINE_KILLED)
        return DEADLINE_DO_NOTHING;
    if (!same)
        deadline->stage = DEADLINE_NONE;
    return running ? decide_running(deadline, row, facts, limits) : DEADLINE_DO_NOTHING;
}
