/* What a load run found, for people and as JSON (docs/bench.md). */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench_options.h"
#include "bench_run.h"
#include "record.h"

/* Print to standard output. Return 0, or -1 without memory, which they tell. */
int bench_report_table(const struct bench_options *options, const struct record *record,
                       const struct bench_run_result *result);
int bench_report_json(const struct bench_options *options, const struct record *record,
                      const struct bench_run_result *result);

#endif
