/* PURE. How a request is ended when its deadline has passed, when its client has gone away, or when an
 * operator says so: a request, never a worker at a guess (docs/architecture.md).
 *
 *   at once            FLAG      the row's cancel word is set: a polite engine looks and returns
 *   + kill grace       SIGNAL    the worker ends itself, if that request still runs. Where only its client
 *                                has gone this comes after --cancel-kill, or never
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

/* Why a request is ended. */
enum deadline_why {
    DEADLINE_PASSED,
    DEADLINE_CLIENT_GONE,
    DEADLINE_KILL_ORDERED,
};

/* How far a worker's present request is on that way. All zeros is the start. */
struct deadline {
    enum deadline_stage stage;
    enum deadline_why why; /* from FLAGGED on */
    uint64_t ordered;      /* the request that an operator wants ended, set by the caller; 0: none */
    uint64_t request;      /* the request that is being ended */
    uint64_t since;        /* when this stage was entered: CLOCK_MONOTONIC, ns */
    uint64_t seen;         /* the request that runs */
    uint64_t seen_at;      /* when it was first seen to run */
};

enum deadline_step {
    DEADLINE_DO_NOTHING,
    DEADLINE_DO_FLAG,
    DEADLINE_DO_SIGNAL,
    DEADLINE_DO_STOP,
    DEADLINE_DO_KILL,
    DEADLINE_DO_CONTINUE,
};

/* In ns. */
struct deadline_limits {
    uint64_t grace;
    uint64_t longest;     /* no request runs for longer than that, whatever its row says */
    uint64_t cancel_kill; /* from the flag to the signal, where the client has gone; 0: never */
};

/* What the row does not tell. */
struct deadline_facts {
    uint64_t now;
    bool stopped; /* the worker, at this moment */
    bool gone;    /* the client whose claim the row shows */
};

/* What to do now with a worker whose row reads `row`. Moves `deadline` on: the caller carries the step out.
 * A request whose client has gone is ended as any other once its deadline passes, or an operator says so. */
enum deadline_step deadline_next(struct deadline *deadline, const struct row_view *row,
                                 const struct deadline_facts *facts, const struct deadline_limits *limits);

#endif
