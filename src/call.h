/* The functions of <cohab/engine.h> that a method calls, and the call that they work on. Worker only. */
#ifndef CALL_H
#define CALL_H

#include <cohab/engine.h>

#include "engine_load.h"
#include "envelope.h"
#include "response.h"
#include "row.h"

#define CALL_REASON_SIZE 64

struct cohab_call {
    void *state;
    const struct engine_method *method;
    const msgpack_object *params; /* an array; in zone and request buffer */
    msgpack_zone *zone;           /* lives until the method has returned */
    struct response *response;
    const struct row *row;
    uint64_t request;  /* number, as in the row */
    uint64_t deadline; /* CLOCK_MONOTONIC, ns */
    bool failed;
    enum cohab_code code;
    char reason[CALL_REASON_SIZE];
    char message[ENVELOPE_MESSAGE_MAX];
};

/* Runs the method and leaves a whole frame in call->response: its result or its error, with msgid. */
void call_run(struct cohab_call *call, uint32_t msgid);

#endif
