/* PURE. A worker that sits on a claim without acting on it: stopped from outside (SIGSTOP, a debugger, the
 * freezer) within microseconds of being woken, it keeps a request that every other worker could serve
 * (docs/architecture.md). It is treated as a dead one, but never at a guess: it is stopped, looked at again,
 * and only then killed.
 *
 * Time is counted in the master's own looks: a pause of the whole service must not kill the innocent. */
#ifndef STALL_H
#define STALL_H

#include <stdbool.h>
#include <stdint.h>

#include "row.h"

/* What was seen at the last look. All zeros is the start. */
struct stall {
    uint64_t claim;
    uint64_t calls;
    enum row_state state;
    bool valid;
    uint64_t looked_at; /* CLOCK_MONOTONIC, ns */
    uint64_t stuck_for; /* ns */
    bool stopping;      /* STALL_DO_STOP was returned: the verdict waits until the worker is stopped */
};

enum stall_step { STALL_DO_NOTHING, STALL_DO_STOP, STALL_DO_KILL, STALL_DO_CONTINUE };

/* What to do now with a worker whose row reads `row`, and whether it is `stopped` at this moment. A look that
 * comes late starts the count anew. `limit` in ns. */
enum stall_step stall_look(struct stall *stall, const struct row_view *row, bool stopped, uint64_t now,
                           uint64_t limit);

#endif
