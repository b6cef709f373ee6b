/* PURE. How a request is ended when its deadline has passed: a request, never a worker at a guess
 * (docs/architecture.md).
 *
 *   deadline           FLAG      the row's cancel word is set: a polite engine looks and returns
 *   + kill grace       SIGNAL    the worker ends itself, if that request still runs
 *   + kill grace       STOP      SIGSTOP, so that the worker can begin nothing new
 *   when it is stopped KILL      if the row still shows that request running; CONTINUE otherwise (at the
 * latest 0.2 s later: what sleeps in the kernel does not stop, but does not go on either)
 *
 * (Flag and signal at once would mean that no engine sees the flag before its worker ends.) */
#ifndef DEADLINE_H
#define DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "row.h"

enum deadline_stage {
    DEADLINE_NONE,
    DEADLINE_FLAGGED,
    DEADLINE_SIGNALLED,
    DEADLINE_STOPPING,
    DEADLINE_KILLED
};

/* How far a worker's present request is on that way. All zeros is the start. */
struct deadline {
    enum deadline_stage stage;
    uint64_t request; /* the request that is being ended */
    uint64_t since;   /* when this stage was entered: CLOCK_MONOTONIC, ns */
    uint64_t seen;    /* the request that runs */
    uint64_t seen_at; /* when it was first seen to run */
};

enum deadline_step {
    DEADLINE_DO_NOTHING,
    DEADLINE_DO_FLAG,
    DEADLINE_DO_SIGNAL,
    DEADLINE_DO_STOP,
    DEADLINE_DO_KILL,
    DEADLINE_DO_CONTINUE,
};

/* What to do now with a worker whose row reads `row`, and whether it is `stopped` at this moment. Moves
 * `deadline` on: the caller carries the step out. `grace` and `longest` in ns: no request runs for longer
 * than that, whatever its row says. */
enum deadline_step deadline_next(struct deadline *deadline, const struct row_view *row, bool stopped,
                                 uint64_t now, uint64_t grace, uint64_t longest);

#endif
