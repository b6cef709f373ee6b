/* One line on standard error that shows how a load run is going, if that is a terminal. */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

struct bench_progress {
    bool wanted;
    uint64_t begin, end; /* of the run; CLOCK_MONOTONIC, ns */
    uint64_t next;       /* when the line changes */
    uint64_t queue;      /* calls that wait for a connection */
    unsigned busy;       /* calls under way */
    unsigned away;       /* connections that are lost */
};

void bench_progress_begin(struct bench_progress *progress, uint64_t now, uint64_t end);
/* Changes the line once a second. end: of the duration, which can move. */
void bench_progress_show(struct bench_progress *progress, const struct record *record, uint64_t now,
                         uint64_t end);
void bench_progress_end(struct bench_progress *progress);

#endif
