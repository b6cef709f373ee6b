/* PURE. Counts of values over a wide range with three significant digits everywhere, in fixed memory and at
 * one increment a value. The layout is that of HdrHistogram (Gil Tene,
 * https://hdrhistogram.github.io/HdrHistogram/): values below 2048 have buckets of their own, and every power
 * of two above is divided into 1024 equal ones, so that a bucket is at most 1/1024 of its values wide. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 10 /* 2^10 buckets for each power of two: three digits */
#define HISTOGRAM_TOP_BITS 44 /* larger values, from 4.9 h in ns, count as the largest */
#define HISTOGRAM_BUCKETS  ((HISTOGRAM_TOP_BITS - HISTOGRAM_SUB_BITS + 1u) << HISTOGRAM_SUB_BITS)

/* All zero is an empty one. */
struct histogram {
    uint64_t total; /* number of values */
    uint64_t min, max;
    double sum;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_add(struct histogram *histogram, const struct histogram *other);

/* The value that a share of all values (0 to 1) does not exceed: the upper bound of its bucket, but never
 * more than the largest value. 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
double histogram_mean(const struct histogram *histogram);

/* The largest value that counts in a bucket. */
uint64_t histogram_upper_bound(size_t bucket);

#endif
