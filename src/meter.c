#include "meter.h"

#include <string.h>

/* No call is faster: it takes four system calls. */
#define CALL_MIN 250 /* ns */
/* Sizes of a request and its response are below this. */
#define FRAME_MAX (UINT64_C(1) << 32)

static const char *const code_names[METER_CODES] = {
    "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
};
#define CODE_UNKNOWN 2

unsigned meter_code(const char *name)
{
    for (unsigned code = 0; code < METER_CODES; code++)
        if (strcmp(name, code_names[code]) == 0)
            return code;
    return CODE_UNKNOWN;
}

const char *meter_code_name(uint32_t code)
{
    return code_names[code < METER_CODES ? code : CODE_UNKNOWN];
}

void meter_count(struct meter *meter, const struct meter_record *record)
{
    _Atomic uint64_t *words = meter->methods[record->method].words;
    meter_add(&words[METER_CALLS], 1);
    meter_add(&words[METER_CODE + record->code], 1);
    meter_add(&words[METER_DURATION + meter_bucket(record->duration)], 1);
    meter_add(&words[METER_DURATION_SUM], record->duration);
    meter_add(&words[METER_REQUEST_BYTES], record->request_bytes);
    meter_add(&words[METER_RESPONSE_BYTES], record->response_bytes);
    if (record->queued == 0)
        return;
    meter_add(&words[METER_QUEUED + meter_bucket(record->queued)], 1);
    meter_add(&words[METER_QUEUED_SUM], record->queued);
}

void meter_log(struct meter *meter, const struct meter_record *record)
{
    uint64_t written = atomic_load_explicit(&meter->written, memory_order_relaxed);
    if (written - atomic_load_explicit(&meter->read, memory_order_acquire) >= METER_RECORDS) {
        meter_add(&meter->lost, 1);
        return;
    }
    meter->records[written % METER_RECORDS] = *record;
    atomic_store_explicit(&meter->written, written + 1, memory_order_release);
}

/* --- the master --- */

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* Calls that there can have been in that time. */
static uint64_t calls_within(uint64_t age)
{
    return age / CALL_MIN + 1;
}

/* What a word can have grown by in that many calls, and one that is being counted at this moment. */
static uint64_t most(unsigned word, uint64_t calls, uint64_t age)
{
    switch (word) {
    case METER_DURATION_SUM:
        return age; /* one call at a time */
    case METER_QUEUED_SUM:
        return multiply(calls + 1, METER_QUEUED_MAX);
    case METER_REQUEST_BYTES:
    case METER_RESPONSE_BYTES:
        return multiply(calls + 1, FRAME_MAX);
    default:
        return calls + 1;
    }
}

bool meter_fold(const struct meter_method *method, struct meter_figures *last, struct meter_figures *total,
                uint64_t age)
{
    struct meter_figures now;
    now.words[METER_CALLS] = atomic_load_explicit(&method->words[METER_CALLS], memory_order_relaxed);
    if (now.words[METER_CALLS] == last->words[METER_CALLS])
        return true; /* most methods, most of the time */
    uint64_t calls = now.words[METER_CALLS] - last->words[METER_CALLS];
    if (now.words[METER_CALLS] < last->words[METER_CALLS] || calls > calls_within(age))
        return false;
    for (unsigned i = METER_CALLS + 1; i < METER_WORDS; i++) {
        now.words[i] = atomic_load_explicit(&method->words[i], memory_order_relaxed);
        if (now.words[i] < last->words[i] || now.words[i] - last->words[i] > most(i, calls, age))
            return false;
    }
    for (unsigned i = 0; i < METER_WORDS; i++)
        total->words[i] = add(total->words[i], now.words[i] - last->words[i]);
    *last = now;
    return true;
}

bool meter_fold_word(const _Atomic uint64_t *word, uint64_t *last, uint64_t *total, uint64_t age)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    if (now < *last || now - *last > calls_within(age))
        return false;
    *total = add(*total, now - *last);
    *last = now;
    return true;
}

bool meter_take(struct meter *meter, uint64_t *read, struct meter_record *record)
{
    uint64_t written = atomic_load_explicit(&meter->written, memory_order_acquire);
    if (written == *read || written - *read > METER_RECORDS)
        return false; /* none, or nonsense */
    *record = meter->records[*read % METER_RECORDS];
    atomic_store_explicit(&meter->read, ++*read, memory_order_release);
    return true;
}
