/* The command line of `cohab bench`, read and checked. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli.h"
#include "template.h"

/* One call of the workload. */
struct bench_call {
    char *method;
    double weight;
    struct template template;
};

struct bench_options {
    const char *socket;
    unsigned connections;
    double rate; /* calls a second; 0: a closed loop */
    bool poisson;
    double duration, warmup, think, timeout; /* seconds */
    uint64_t seed;
    bool json;
    bool echo;                /* the peer sends every frame back */
    struct bench_call *calls; /* owned */
    size_t call_count;
    double weights;           /* of all calls */
    size_t scratch_size;      /* of a frame of any call */
    struct bench_file *files; /* owned: what {word:FILE} has read */
};

/* Ends the process when the command line is wrong. */
void bench_options_read(struct bench_options *options, struct cli *cli, int argc, char **argv);
void bench_options_free(struct bench_options *options);

#endif
