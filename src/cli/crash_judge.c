#include "crash_judge.h"

#include <string.h>

#include "crash_place.h"
#include "object.h"

/* A cause, as far as causes are compared. */
struct cause {
    const char *kind; /* one of kinds[]; NULL: none of them */
    const msgpack_object *signal;
    const msgpack_object *status; /* of exit(); NULL: not known */
};

static const char *const kinds[] = {"signal",       "exit",     "deadline", "cancelled",   "killed",
                                    "memory_limit", "oom_kill", "stalled",  "descriptors", "slow"};

static bool is_kind(const struct cause *cause, const char *kind)
{
    return cause->kind && strcmp(cause->kind, kind) == 0;
}

static struct cause cause_of_report(const msgpack_object *report)
{
    const msgpack_object *map = object_find(report, "cause");
    struct cause cause = {.signal = object_find_text(map, "signal"), .status = object_find(map, "status")};

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (object_is_text(object_find(map, "kind"), kinds[i]))
            cause.kind = kinds[i];
    /* It would have ended like that, had its deadline been shorter. */
    if (is_kind(&cause, "slow") || is_kind(&cause, "cancelled") || is_kind(&cause, "killed"))
        cause.kind = "deadline";
    return cause;
}

static struct cause cause_of_error(const msgpack_object *error)
{
    const msgpack_object *reason = object_find(error, "reason");
    struct cause cause = {.signal = object_find_text(object_find(error, "details"), "signal")};

    if (object_is_text(reason, "ENGINE_CRASHED"))
        cause.kind = cause.signal ? "signal" : "exit";
    else if (object_is_text(reason, "DEADLINE"))
        cause.kind = "deadline";
    return cause;
}

static bool is_same_cause(const struct cause *a, const struct cause *b)
{
    if (!a->kind || !b->kind || strcmp(a->kind, b->kind) != 0)
        return false;
    if (is_kind(a, "signal"))
        return a->signal && b->signal && msgpack_object_equal(*a->signal, *b->signal);
    return !a->status || !b->status || msgpack_object_equal(*a->status, *b->status);
}

static const msgpack_object *find_stack(const struct crash_outcome *outcome)
{
    const msgpack_object *stack = object_find_array(outcome->report, "stack");

    return stack ? stack : object_find_array(object_find(outcome->error, "details"), "frames");
}

struct crash_verdict crash_judge(const msgpack_object *report, const struct crash_outcome *outcome)
{
    struct crash_verdict verdict = {.stack = find_stack(outcome)};
    struct cause old = cause_of_report(report);
    struct cause cause = outcome->report ? cause_of_report(outcome->report) : cause_of_error(outcome->error);

    verdict.crashed = cause.kind && (!is_kind(&cause, "deadline") || is_kind(&old, "deadline"));
    verdict.same_cause = verdict.crashed && is_same_cause(&old, &cause);
    verdict.place = crash_place_find(verdict.stack, object_find(outcome->report, "top"));
    verdict.old_place = crash_place_find(object_find_array(report, "stack"), object_find(report, "top"));
    verdict.same_place = verdict.crashed && verdict.place && verdict.old_place &&
                         crash_place_equal(verdict.place, verdict.old_place);
    return verdict;
}
