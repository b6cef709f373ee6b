#include "stall.h"

#include "halt.h"

/* A look that comes later than this after the one before it (the master looks every 100 ms at least) says
 * that the master itself was held up, and perhaps everything with it. In ns. */
#define LATE_AT_MOST UINT64_C(500000000)

/* Whether a worker never stays so for long by itself. RUNNING has its deadline; RECEIVED and WRITING may wait
 * for the peer, but not while the worker is stopped. A row that stays senseless was overwritten: nothing but
 * this ends what its worker does. */
static bool is_brief(const struct row_view *row, bool stopped)
{
    if (!row->valid)
        return true;
    if (row->claim == ROW_NO_CLAIM || row->state == ROW_RUNNING)
        return false;
    return stopped || row->state == ROW_WAITING || row->state == ROW_ANSWERED || row->state == ROW_CLOSING;
}

static bool is_unchanged(const struct stall *stall, const struct row_view *row, bool stopped)
{
    return is_brief(row, stopped) && row->claim == stall->claim && row->calls == stall->calls &&
           row->state == stall->state && row->valid == stall->valid;
}

static enum stall_step decide(struct stall *stall, bool unchanged, bool stopped, uint64_t now)
{
    if (!halt_is_over(stopped, stall->looked_at, now))
        return STALL_DO_NOTHING;
    *stall = (struct stall){0};
    return unchanged ? STALL_DO_KILL : STALL_DO_CONTINUE;
}

enum stall_step stall_look(struct stall *stall, const struct row_view *row, bool stopped, uint64_t now,
                           uint64_t limit)
{
    bool unchanged = is_unchanged(stall, row, stopped);
    if (stall->stopping)
        return decide(stall, unchanged, stopped, now);
    uint64_t elapsed = now - stall->looked_at;
    uint64_t late = limit / 2 < LATE_AT_MOST ? limit / 2 : LATE_AT_MOST;
    stall->stuck_for = unchanged && elapsed <= late ? stall->stuck_for + elapsed : 0;
    stall->claim = row->claim;
    stall->calls = row->calls;
    stall->state = row->state;
    stall->valid = row->valid;
    stall->looked_at = now;
    if (stall->stuck_for < limit)
        return STALL_DO_NOTHING;
    stall->stopping = true;
    return stopped ? decide(stall, unchanged, stopped, now) : STALL_DO_STOP;
}
