/* PURE. What the master does with the claim of a worker that has died: the table of
 * docs/architecture.md as a function. The state names are those of row.h, and those of the models. */
#ifndef RECOVERY_H
#define RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "deadline.h"
#include "row.h"

/* Everything that the decision rests on, read after the worker was reaped. */
struct recovery_facts {
    struct row_view row;
    bool tenant;         /* the claim names a slot and the generation of its present tenant */
    bool buffer_touched; /* the request buffer's length word is no longer FRAME_NOTHING */
    uint64_t
        frame_size; /* header and body of the frame in the buffer; 0 where its header says no valid length */
    bool has_msgid; /* the msgid could be read from the buffer */
    uint32_t msgid; /* ... and is this */
    uint64_t ended_request; /* number of the request that the master ended; 0: none */
    enum deadline_why why;  /* ... and why */
    bool stopping;          /* the master killed the worker because the server stops */
};

/* What happens to the connection. */
enum recovery_action {
    RECOVERY_NOTHING, /* the worker held no connection */
    RECOVERY_REARM,   /* MOD, or ADD where that says ENOENT: another worker reads the request */
    RECOVERY_SETTLE,  /* DEL; ADD once no other row claims the slot (it is in doubt until then) */
    RECOVERY_CLOSE,   /* DEL, shutdown, close */
};

/* What is sent first, on the dead worker's behalf. */
enum recovery_answer {
    RECOVERY_NO_ANSWER,
    RECOVERY_WORKER_LOST,    /* UNAVAILABLE, WORKER_LOST: the engine was not called */
    RECOVERY_ENGINE_CRASHED, /* INTERNAL, ENGINE_CRASHED */
    RECOVERY_DEADLINE,       /* DEADLINE_EXCEEDED, DEADLINE: the master ended it */
    RECOVERY_CANCELLED,      /* CANCELLED, CANCELLED: the master ended it, as its client has gone away */
    RECOVERY_KILLED,         /* CANCELLED, KILLED: the master ended it, as an operator said */
    RECOVERY_STOPPING,       /* UNAVAILABLE, STOPPING: it ran when the server stopped */
};

struct recovery_plan {
    enum recovery_action action;
    enum recovery_answer answer;
    uint32_t msgid; /* for the answer */
};

struct recovery_plan recovery_decide(const struct recovery_facts *facts);

#endif
