/* PURE. A worker's meter: counters of its calls in memory that it shares with the master, fresh for every
 * process. The worker alone writes them, one word at a time and without locks; the master adds what has come
 * since it last looked to totals of its own (meter_fold()). An engine can write over them: what does not fit
 * together is not counted, and the totals never go down. */
#ifndef METER_H
#define METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "OK" and the codes of errors, numbered as gRPC does. */
#define METER_CODES 17
/* Buckets of a histogram: up to 16 us, 32 us, and so on to 268 s; one more for what is longer. */
#define METER_BUCKETS     26
#define METER_BUCKET_UNIT UINT64_C(16000) /* ns */
/* What a client can make of its queue time, ns: a longer one counts as unknown. */
#define METER_QUEUED_MAX (UINT64_C(3600) * 1000000000)

/* Names are cut to this, with their end. */
#define METER_NAME_SIZE 64

/* Indexes of methods: those that every engine has come first. */
enum {
    METER_OTHER,                       /* no such method, or no request at all */
    METER_BUILTIN,                     /* those of builtin.c, in its order */
    METER_METHODS = METER_BUILTIN + 3, /* the engine's, in the order of its table */
};

/* The words of a method. */
enum {
    METER_CALLS,                                         /* of all codes */
    METER_CODE,                                          /* of each code */
    METER_DURATION = METER_CODE + METER_CODES,           /* its buckets */
    METER_DURATION_SUM = METER_DURATION + METER_BUCKETS, /* ns */
    METER_QUEUED,                                        /* buckets of the calls whose queue time is known */
    METER_QUEUED_SUM = METER_QUEUED + METER_BUCKETS,     /* ns */
    METER_REQUEST_BYTES,
    METER_RESPONSE_BYTES,
    METER_WORDS,
};

struct meter_method {
    _Atomic uint64_t words[METER_WORDS];
};

/* The same, as the master keeps it. */
struct meter_figures {
    uint64_t words[METER_WORDS];
};

/* A call that is to be logged. */
struct meter_record {
    uint64_t duration, queued; /* ns; queued 0: unknown */
    uint64_t request_bytes, response_bytes;
    uint32_t method, code;
    int32_t peer_pid;
    uint32_t peer_uid;
};

#define METER_RECORDS 1024u

struct meter {
    _Atomic uint64_t refused; /* requests in quarantine */
    _Atomic uint64_t late;    /* requests past their deadline when they were taken up */
    _Atomic uint64_t shed;    /* requests refused by --max-queue-time */
    /* A ring: record n lies at n % METER_RECORDS. */
    _Atomic uint64_t written; /* records, by the worker */
    _Atomic uint64_t lost;    /* records that had no room, by the worker */
    _Atomic uint64_t read;    /* records, by the master */
    struct meter_record records[METER_RECORDS];
    struct meter_method methods[];
};

static inline size_t meter_size(unsigned methods)
{
    return sizeof(struct meter) + methods * sizeof(struct meter_method);
}

/* --- the worker --- */

/* Relaxed, and no read-modify-write: there is one writer. */
static inline void meter_add(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

/* The bucket of a time. */
static inline unsigned meter_bucket(uint64_t ns)
{
    uint64_t units = ns / METER_BUCKET_UNIT + (ns % METER_BUCKET_UNIT != 0);
    unsigned bucket = units <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(units - 1);
    return bucket < METER_BUCKETS ? bucket : METER_BUCKETS - 1;
}

/* The longest time in a bucket but the last, ns. */
static inline uint64_t meter_bucket_bound(unsigned bucket)
{
    return METER_BUCKET_UNIT << bucket;
}

/* Counts a call; record->method is the caller's to check. */
void meter_count(struct meter *meter, const struct meter_record *record);
/* Has a call logged, or counted as lost. */
void meter_log(struct meter *meter, const struct meter_record *record);
/* The number of a code; of one that is unknown, that of UNKNOWN. */
unsigned meter_code(const char *name);

/* --- the master --- */

/* "OK", "CANCELLED", ...; "UNKNOWN" for numbers that mean nothing. */
const char *meter_code_name(uint32_t code);
/* Adds to total what a method's words have grown by since `last`, which then is what they are now. age: of
 * the worker, ns, which it cannot have worked longer than. False, with nothing changed, where they cannot be
 * right. */
bool meter_fold(const struct meter_method *method, struct meter_figures *last, struct meter_figures *total,
                uint64_t age);
/* The same for one word that counts things that happen at most once a call. */
bool meter_fold_word(const _Atomic uint64_t *word, uint64_t *last, uint64_t *total, uint64_t age);
/* Copies the next record; false if there is none. */
bool meter_take(struct meter *meter, uint64_t *read, struct meter_record *record);

#endif
