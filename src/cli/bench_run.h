/* Runs a load. A closed loop: every connection calls again as soon as it has its answer, or after a pause. An
 * open loop: calls start at a rate; when all connections are busy they wait in the generator, and as their
 * latencies count from when they were meant to start, a server that stalls cannot hide it (what Gil Tene
 * calls coordinated omission).
 *
 * What counts are the calls that start after the warm-up and before the end. Those that are still under way
 * at the end are waited for, as a stall at the end would else be missing. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "bench_options.h"
#include "histogram.h"
#include "record.h"

struct bench_run_result {
    double seconds; /* from the end of the warm-up to the end of the last call, or of the duration */
    bool interrupted;
    double own_cpu;        /* share of one core that this process took itself */
    uint64_t queue_most;   /* calls of an open loop that waited for a connection at the same time */
    struct histogram late; /* how much later than meant calls of an open loop started, ns */
};

/* Returns CLI_OK when it ran, or the exit code after telling what went wrong. */
int bench_run_load(const struct bench_options *options, struct record *record,
                   struct bench_run_result *result);

#endif
