#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/histogram.h"
#include "random.h"

static struct histogram histogram, other;

static int clear(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof(histogram));
    memset(&other, 0, sizeof(other));
    return 0;
}

static void test_nothing(void **state)
{
    (void)state;
    assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
    assert_true(histogram_mean(&histogram) == 0);
}

static void test_one_value(void **state)
{
    (void)state;
    histogram_record(&histogram, 123456789);
    for (int i = 0; i <= 10; i++)
        assert_int_equal(histogram_quantile(&histogram, i / 10.0), 123456789);
    assert_int_equal(histogram.min, 123456789);
    assert_int_equal(histogram.max, 123456789);
    assert_true(histogram_mean(&histogram) == 123456789);
}

static void test_small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 1000; value++)
        histogram_record(&histogram, value);
    assert_int_equal(histogram_quantile(&histogram, 0), 1);
    assert_int_equal(histogram_quantile(&histogram, 0.5), 500);
    assert_int_equal(histogram_quantile(&histogram, 0.99), 990);
    assert_int_equal(histogram_quantile(&histogram, 0.999), 999);
    assert_int_equal(histogram_quantile(&histogram, 1), 1000);
    assert_true(histogram_mean(&histogram) == 500.5);
}

/* Every bucket begins behind the one before it, and none is wider than 1/1024 of its values. */
static void test_buckets_cover_everything(void **state)
{
    (void)state;
    for (size_t bucket = 1; bucket < HISTOGRAM_BUCKETS; bucket++) {
        uint64_t low = histogram_upper_bound(bucket - 1) + 1, high = histogram_upper_bound(bucket);
        assert_true(low <= high);
        assert_true((high - low) * 1024 <= low);
        histogram_record(&histogram, low);
        histogram_record(&histogram, high);
        assert_int_equal(histogram.counts[bucket], 2);
    }
    assert_int_equal(histogram_upper_bound(HISTOGRAM_BUCKETS - 1), (UINT64_C(1) << HISTOGRAM_TOP_BITS) - 1);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Against the sorted values themselves. */
static void test_quantiles_have_three_digits(void **state)
{
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    struct random random = random_seeded(7);
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = random_next(&random) >> (20 + random_below(&random, 40));
        histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare);
    for (size_t rank = 1; rank <= COUNT; rank++) {
        uint64_t exact = values[rank - 1], found = histogram_quantile(&histogram, rank / (double)COUNT);
        assert_true(found >= exact);
        assert_true((found - exact) * 1024 <= exact);
        rank += 98;
    }
}

static void test_larger_than_the_largest(void **state)
{
    (void)state;
    histogram_record(&histogram, UINT64_MAX);
    assert_int_equal(histogram.counts[HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(histogram.max, UINT64_MAX);
}

static void test_add(void **state)
{
    (void)state;
    histogram_add(&histogram, &other);
    assert_int_equal(histogram.total, 0);
    histogram_record(&other, 5);
    histogram_record(&other, 5000000);
    histogram_add(&histogram, &other);
    histogram_record(&other, 3);
    histogram_add(&histogram, &other);
    assert_int_equal(histogram.total, 5);
    assert_int_equal(histogram.min, 3);
    assert_int_equal(histogram.max, 5000000);
    assert_int_equal(histogram.counts[5], 2);
    assert_true(histogram.sum == 10000013);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing, clear),
        cmocka_unit_test_setup(test_one_value, clear),
        cmocka_unit_test_setup(test_small_values_are_exact, clear),
        cmocka_unit_test_setup(test_buckets_cover_everything, clear),
        cmocka_unit_test_setup(test_quantiles_have_three_digits, clear),
        cmocka_unit_test_setup(test_larger_than_the_largest, clear),
        cmocka_unit_test_setup(test_add, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
