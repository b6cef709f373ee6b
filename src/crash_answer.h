/* PURE. What the caller of a request is told of the death of its worker. */
#ifndef CRASH_ANSWER_H
#define CRASH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "envelope.h"
#include "recovery.h"
#include "reporter.h"

struct crash_answer {
    const struct reporter_job *job;
    const struct reporter_reply *reply; /* NULL: the reporter has not come so far */
    const char *id, *cause, *top;       /* what is known; empty: nothing */
    uint32_t msgid;
    enum recovery_answer answer;
};

/* Of RECOVERY_ENGINE_CRASHED, RECOVERY_DEADLINE or RECOVERY_KILLED. */
const char *crash_answer_code(enum recovery_answer answer);
/* Writes the whole frame and returns its size. */
size_t crash_answer_write(unsigned char frame[ENVELOPE_ERROR_MAX], const struct crash_answer *answer);

#endif
