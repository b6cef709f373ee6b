#include "histogram.h"

#include <math.h>

#define SUB_BUCKETS (1u << HISTOGRAM_SUB_BITS)
#define TOP_VALUE   ((UINT64_C(1) << HISTOGRAM_TOP_BITS) - 1)

static size_t bucket_of(uint64_t value)
{
    if (value > TOP_VALUE)
        value = TOP_VALUE;
    if (value < 2 * SUB_BUCKETS)
        return (size_t)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (size_t)shift * SUB_BUCKETS + (size_t)(value >> shift);
}

uint64_t histogram_upper_bound(size_t bucket)
{
    if (bucket < 2 * SUB_BUCKETS)
        return bucket;
    size_t shift = bucket / SUB_BUCKETS - 1;
    return ((bucket - shift * SUB_BUCKETS + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    if (histogram->total == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->total++;
    histogram->sum += (double)value;
    histogram->counts[bucket_of(value)]++;
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
    if (other->total == 0)
        return;
    if (histogram->total == 0 || other->min < histogram->min)
        histogram->min = other->min;
    if (other->max > histogram->max)
        histogram->max = other->max;
    histogram->total += other->total;
    histogram->sum += other->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->counts[i] += other->counts[i];
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    /* What rounding adds to a whole number must not make it the next one: 0.99 of 100 values are 99. */
    double rank = ceil(share * (double)histogram->total - 1e-6);
    uint64_t seen = 0;

    if (rank < 1)
        rank = 1;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if ((double)seen >= rank) {
            uint64_t bound = histogram_upper_bound(i);
            return bound < histogram->max ? bound : histogram->max;
        }
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->total > 0 ? histogram->sum / (double)histogram->total : 0;
}
