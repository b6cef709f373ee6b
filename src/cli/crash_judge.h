/* PURE. Whether what came of a replay is what the report tells. */
#ifndef CRASH_JUDGE_H
#define CRASH_JUDGE_H

#include <stdbool.h>

#include <msgpack.h>

/* What came of it; each is NULL where there is none. */
struct crash_outcome {
    const msgpack_object *report; /* of this crash, by the server of the replay */
    const msgpack_object *error;  /* the answer */
};

struct crash_verdict {
    bool crashed; /* or ran past its deadline, where that is what the report is about */
    bool same_cause;
    bool same_place;                 /* false also where one of the two is not known */
    const msgpack_object *place;     /* text; NULL: not known */
    const msgpack_object *old_place; /* that of the report; the same */
    const msgpack_object *stack;     /* of this crash: an array of frames, or NULL */
};

struct crash_verdict crash_judge(const msgpack_object *report, const struct crash_outcome *outcome);

#endif
