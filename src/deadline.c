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

enum deadline_step deadline_next(struct deadline *deadline, const struct row_view *row, bool stopped,
                                 uint64_t now, uint64_t grace, uint64_t longest)
{
    bool running = row->valid && row->state == ROW_RUNNING;
    bool same = running && row->request == deadline->request;
    if (deadline->stage == DEADLINE_STOPPING)
        return decide_stopped(deadline, same, stopped, now);
    if (deadline->stage == DEADLINE_KILLED)
        return DEADLINE_DO_NOTHING;
    if (!same)
        deadline->stage = DEADLINE_NONE;
    bool waited = now - deadline->since >= grace;
    switch (deadline->stage) {
    case DEADLINE_FLAGGED:
        return waited ? enter(deadline, DEADLINE_SIGNALLED, now, DEADLINE_DO_SIGNAL) : DEADLINE_DO_NOTHING;
    case DEADLINE_SIGNALLED:
        return waited ? enter(deadline, DEADLINE_STOPPING, now, DEADLINE_DO_STOP) : DEADLINE_DO_NOTHING;
    default:
        break;
    }
    if (!running || !is_overdue(deadline, row, now, longest))
        return DEADLINE_DO_NOTHING;
    deadline->request = row->request;
    return enter(deadline, DEADLINE_FLAGGED, now, DEADLINE_DO_FLAG);
}
