/* PURE. Metrics in the Prometheus text format, version 0.0.4. Errors stay in the stream. */
#ifndef EXPOSITION_H
#define EXPOSITION_H

#include <stdint.h>
#include <stdio.h>

/* The last one of a list has no name. */
struct exposition_label {
    const char *name;
    const char *value; /* anything: it is escaped */
};

/* The lines before a metric's samples. type: "counter", "gauge" or "histogram". */
void exposition_begin(FILE *out, const char *name, const char *type, const char *help);
/* One sample; labels may be NULL. */
void exposition_count(FILE *out, const char *name, const struct exposition_label *labels, uint64_t value);
void exposition_seconds(FILE *out, const char *name, const struct exposition_label *labels, uint64_t ns);
/* A histogram of times: counts of its buckets, of which the last has no bound; bounds in ns. */
void exposition_histogram(FILE *out, const char *name, const struct exposition_label *labels,
                          const uint64_t *counts, unsigned buckets, uint64_t (*bound)(unsigned bucket),
                          uint64_t sum);

#endif
