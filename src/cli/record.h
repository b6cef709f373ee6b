/* PURE. What a load run has measured. Times are CLOCK_MONOTONIC in ns, durations ns.
 *
 * Latencies are those of calls that succeeded; one that failed counts as an error and nowhere else, for a
 * quick refusal would make the latencies look better than they are. */
#ifndef RECORD_H
#define RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define RECORD_KINDS_MAX 64 /* kinds of error that are told apart; further ones count as one more */
#define RECORD_NAME_SIZE 96 /* "CODE/REASON", terminated */
#define RECORD_TEXT_SIZE 160

struct record_error {
    char name[RECORD_NAME_SIZE];
    char message[RECORD_TEXT_SIZE]; /* of the first one */
    uint64_t count;
};

/* One second of the run: what ended in it. */
struct record_second {
    uint64_t calls, errors;
    uint64_t p50, p99, max; /* of the calls, if there are any */
};

struct record {
    uint64_t start;          /* when measuring begins */
    struct histogram *calls; /* one for each call of the workload */
    size_t call_count;
    uint64_t errors;
    struct record_error kinds[RECORD_KINDS_MAX + 1];
    size_t kind_count;
    uint64_t bytes_sent, bytes_received; /* of all calls that were answered, length words included */
    uint64_t reconnects;
    uint64_t last_end;             /* when the last call ended; 0: none has */
    struct record_second *seconds; /* those that are over */
    size_t second_count;
    struct histogram *now; /* the calls of the running second, its errors */
    uint64_t errors_now;
};

/* Text that is not terminated, and may hold anything. bytes NULL: none. */
struct record_text {
    const char *bytes;
    size_t size;
};

/* Returns 0, or -1 without memory. To be freed after either. */
int record_begin(struct record *record, size_t call_count);
void record_free(struct record *record);

void record_success(struct record *record, size_t call, uint64_t end, uint64_t latency);
void record_error(struct record *record, uint64_t end, struct record_text code, struct record_text reason,
                  struct record_text message);
/* Closes all seconds that are over at `now`. Without memory they go on. */
void record_tick(struct record *record, uint64_t now);
/* Closes the last second, unless nothing ended in it. */
void record_end(struct record *record);

/* Adds up the latencies of all calls. */
void record_sum(const struct record *record, struct histogram *sum);

#endif
