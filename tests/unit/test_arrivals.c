#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "cli/arrivals.h"

#define START UINT64_C(1000000000000)

static void test_a_constant_rate_does_not_drift(void **state)
{
    struct arrivals arrivals = arrivals_begin(START, 3, false, 1);
    (void)state;
    assert_int_equal(arrivals.next, START);
    for (int i = 0; i < 3000000; i++)
        arrivals_step(&arrivals);
    assert_int_equal(arrivals.count, 3000000);
    assert_in_range(arrivals.next, START + UINT64_C(1000000) * 1000000000 - 1,
                    START + UINT64_C(1000000) * 1000000000 + 1);
}

/* Of an exponential distribution the mean is the standard deviation. */
static void test_poisson_gaps(void **state)
{
    enum { COUNT = 200000 };
    struct arrivals arrivals = arrivals_begin(START, 1000, true, 1);
    double sum = 0, squares = 0, shorter = 0;
    (void)state;
    assert_true(arrivals.next > START);
    for (int i = 0; i < COUNT; i++) {
        uint64_t before = arrivals.next;
        arrivals_step(&arrivals);
        assert_true(arrivals.next >= before);
        double gap = (double)(arrivals.next - before);
        sum += gap;
        squares += gap * gap;
        shorter += gap < 1e6;
    }
    double mean = sum / COUNT, deviation = sqrt(squares / COUNT - mean * mean);
    assert_true(fabs(mean / 1e6 - 1) < 0.01);
    assert_true(fabs(deviation / 1e6 - 1) < 0.02);
    assert_true(fabs(shorter / COUNT - (1 - exp(-1))) < 0.01);
}

static void test_a_copy_walks_over_the_same_times(void **state)
{
    struct arrivals first = arrivals_begin(START, 50, true, 9), ahead = first;
    uint64_t times[100];
    (void)state;
    for (size_t i = 0; i < 100; i++, arrivals_step(&ahead))
        times[i] = ahead.next;
    for (size_t i = 0; i < 100; i++, arrivals_step(&first))
        assert_int_equal(first.next, times[i]);
    assert_int_equal(first.count, ahead.count);
    struct arrivals seeded = arrivals_begin(START, 50, true, 10);
    assert_int_not_equal(seeded.next, times[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_constant_rate_does_not_drift),
        cmocka_unit_test(test_poisson_gaps),
        cmocka_unit_test(test_a_copy_walks_over_the_same_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
