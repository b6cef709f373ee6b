#include "call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "check.h"
#include "clock.h"

/* Containers inside one another that a result may have: what clients' parsers take. */
#define RESULT_MAX_DEPTH 62

static const char *const code_names[] = {
    [COHAB_CANCELLED] = "CANCELLED",
    [COHAB_UNKNOWN] = "UNKNOWN",
    [COHAB_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [COHAB_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [COHAB_NOT_FOUND] = "NOT_FOUND",
    [COHAB_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [COHAB_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [COHAB_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [COHAB_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [COHAB_ABORTED] = "ABORTED",
    [COHAB_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [COHAB_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [COHAB_INTERNAL] = "INTERNAL",
    [COHAB_UNAVAILABLE] = "UNAVAILABLE",
    [COHAB_DATA_LOSS] = "DATA_LOSS",
    [COHAB_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

static const char *code_name(enum cohab_code code)
{
    size_t count = sizeof(code_names) / sizeof(*code_names);
    return (size_t)code < count && code_names[code] ? code_names[code] : "UNKNOWN";
}

/* --- the engine's interface --- */

void *cohab_state(const struct cohab_call *call)
{
    return call->state;
}

const msgpack_object *cohab_params(const struct cohab_call *call)
{
    return call->params;
}

static bool is_flagged(const struct cohab_call *call)
{
    return atomic_load_explicit(&call->row->cancel, memory_order_relaxed) == call->request;
}

bool cohab_cancelled(const struct cohab_call *call)
{
    return is_flagged(call) || clock_now() >= call->deadline;
}

double cohab_deadline_left(const struct cohab_call *call)
{
    return (double)(int64_t)(call->deadline - clock_now()) / 1e9;
}

void *cohab_alloc(struct cohab_call *call, size_t size)
{
    const size_t alignment = _Alignof(max_align_t);
    if (size > PTRDIFF_MAX) /* the zone adds to it */
        return NULL;
    char *memory = msgpack_zone_malloc_no_align(call->zone, size + alignment - 1);
    return memory ? memory + (-(uintptr_t)memory & (alignment - 1)) : NULL;
}

msgpack_packer *cohab_result(struct cohab_call *call)
{
    return &call->response->packer;
}

static int fail_va(struct cohab_call *call, enum cohab_code code, const char *reason, const char *format,
                   va_list arguments) __attribute__((format(printf, 4, 0)));

static int fail_va(struct cohab_call *call, enum cohab_code code, const char *reason, const char *format,
                   va_list arguments)
{
    call->failed = true;
    call->code = code;
    snprintf(call->reason, sizeof(call->reason), "%s", reason);
    for (char *c = call->reason; *c; c++)
        if (*c <= ' ' || *c > '~')
            *c = '_'; /* a word, and never half a character */
    vsnprintf(call->message, sizeof(call->message), format, arguments);
    return -1;
}

int cohab_fail(struct cohab_call *call, enum cohab_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_va(call, code, code == COHAB_INVALID_ARGUMENT ? "BAD_ARGUMENT" : "ENGINE_ERROR", format, arguments);
    va_end(arguments);
    return -1;
}

int cohab_fail_reason(struct cohab_call *call, enum cohab_code code, const char *reason, const char *format,
                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_va(call, code, reason, format, arguments);
    va_end(arguments);
    return -1;
}

static void *allocate_for_args(void *context, size_t size)
{
    return cohab_alloc(context, size);
}

/* What args.c says, as the call's error. */
static int args_outcome(struct cohab_call *call, enum args_result result, const char *error)
{
    const char *name = call->method->method->name;
    switch (result) {
    case ARGS_OK:
        return 0;
    case ARGS_BAD_ARGUMENT:
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "%s(): %s", name, error);
    case ARGS_BAD_FORMAT:
        return cohab_fail(call, COHAB_INTERNAL, "%s(): the engine's own mistake: %s", name, error);
    case ARGS_NO_MEMORY:
        break;
    }
    if (call->response->trouble == RESPONSE_TOO_LARGE)
        return -1; /* answered as such when the call ends */
    return cohab_fail_reason(call, COHAB_RESOURCE_EXHAUSTED, "NO_MEMORY", "%s(): out of memory", name);
}

int cohab_parse(struct cohab_call *call, const char *format, ...)
{
    char error[ENVELOPE_MESSAGE_MAX / 2];
    struct args_arena arena = {.allocate = allocate_for_args, .context = call};
    va_list arguments;
    va_start(arguments, format);
    enum args_result result = args_parse(call->method->signature, &call->params->via.array, &arena, error,
                                         sizeof(error), format, arguments);
    va_end(arguments);
    return args_outcome(call, result, error);
}

int cohab_return(struct cohab_call *call, const char *format, ...)
{
    char error[ENVELOPE_MESSAGE_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    enum args_result result = args_build(&call->response->packer, error, sizeof(error), format, arguments);
    va_end(arguments);
    return args_outcome(call, result, error);
}

/* --- the outcome --- */

static void answer_error(struct cohab_call *call, uint32_t msgid, const char *code, const char *reason,
                         const char *message, bool retry)
{
    struct envelope_error error = {
        .code = code, .reason = reason, .message = message, .executed = true, .retry = retry};
    response_error(call->response, true, msgid, &error);
}

static bool result_is_one_value(const struct response *response)
{
    size_t size = response_result_size(response), length;
    return size == 0 ||
           (check_value(response_result(response), size, RESULT_MAX_DEPTH, &length) == CHECK_OK &&
            length == size);
}

static void answer_trouble(struct cohab_call *call, uint32_t msgid)
{
    if (call->response->trouble == RESPONSE_TOO_LARGE) {
        snprintf(call->message, sizeof(call->message),
                 "%s(): the result is larger than --max-frame (%zu bytes)", call->method->method->name,
                 call->response->limit - FRAME_HEADER_SIZE);
        answer_error(call, msgid, "RESOURCE_EXHAUSTED", "RESULT_TOO_LARGE", call->message, false);
    } else {
        answer_error(call, msgid, "RESOURCE_EXHAUSTED", "NO_MEMORY",
                     "the worker has no memory for the result", false);
    }
}

static void answer_misbehaviour(struct cohab_call *call, uint32_t msgid, const char *what)
{
    snprintf(call->message, sizeof(call->message), "%s(): the engine %s", call->method->method->name, what);
    answer_error(call, msgid, "INTERNAL", "ENGINE_ERROR", call->message, false);
}

static void answer_killed(struct cohab_call *call, uint32_t msgid)
{
    snprintf(call->message, sizeof(call->message), "%s() was killed by an operator",
             call->method->method->name);
    answer_error(call, msgid, "CANCELLED", "KILLED", call->message, false);
}

void call_run(struct cohab_call *call, uint32_t msgid)
{
    int status = call->method->method->function(call);
    bool idempotent = call->method->method->flags & COHAB_IDEMPOTENT;
    /* Whatever the engine says: it may have given up because of that. */
    if (clock_now() >= call->deadline)
        answer_error(call, msgid, "DEADLINE_EXCEEDED", "DEADLINE", "the deadline passed while the call ran",
                     idempotent);
    else if (is_flagged(call)) /* or its client has gone, and nobody reads this */
        answer_killed(call, msgid);
    else if (call->response->trouble != RESPONSE_FINE)
        answer_trouble(call, msgid);
    else if (call->failed)
        answer_error(call, msgid, code_name(call->code), call->reason, call->message, false);
    else if (status != 0)
        answer_misbehaviour(call, msgid, "reported an error without saying which");
    else if (!result_is_one_value(call->response))
        answer_misbehaviour(call, msgid, "packed something that is not exactly one msgpack value");
    else if (response_finish(call->response, msgid) < 0)
        answer_trouble(call, msgid);
}
