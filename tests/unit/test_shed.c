#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shed.h"

#define MS     UINT64_C(1000000)
#define TARGET (500 * MS)
#define START  (UINT64_C(7000) * 1000 * MS)

/* --- one worker --- */

static bool look(struct shed *shed, uint64_t at, uint64_t wait)
{
    return shed_look(shed, START + at, wait, TARGET);
}

/* Requests every 10 ms from `from` on, before `to`, that have all waited for so long. Returns how many are
 * refused. */
static unsigned look_often(struct shed *shed, uint64_t from, uint64_t to, uint64_t wait)
{
    unsigned refused = 0;
    for (uint64_t at = from; at < to; at += 10 * MS)
        refused += look(shed, at, wait);
    return refused;
}

static void test_short_waits_are_never_refused(void **state)
{
    (void)state;
    struct shed shed = {0};
    assert_int_equal(look_often(&shed, 0, 60000 * MS, TARGET), 0);
    assert_int_equal(shed.pressure, 0);
}

static void test_unknown_waits_mean_nothing(void **state)
{
    (void)state;
    struct shed shed = {0};
    look_often(&shed, 0, 5000 * MS, 2 * TARGET);
    struct shed before = shed;
    assert_int_equal(look_often(&shed, 5000 * MS, 60000 * MS, 0), 0);
    assert_memory_equal(&shed, &before, sizeof(shed));
}

static void test_a_burst_is_let_pass(void **state)
{
    (void)state;
    struct shed shed = {0};
    look(&shed, 0, 1 * MS);
    assert_int_equal(look_often(&shed, 10 * MS, 500 * MS, 2 * TARGET), 0);
    assert_int_equal(look_often(&shed, 500 * MS, 2000 * MS, 1 * MS), 0);
    assert_int_equal(shed.pressure, 0);
}

static void test_a_standing_queue_is_not(void **state)
{
    (void)state;
    struct shed shed = {0};
    look(&shed, 0, 1 * MS);
    assert_int_equal(look_often(&shed, 10 * MS, 500 * MS, 2 * TARGET), 0);
    assert_int_equal(look_often(&shed, 500 * MS, 1500 * MS, 2 * TARGET), 100);
    assert_false(look(&shed, 1500 * MS, TARGET));
    assert_true(look(&shed, 1510 * MS, TARGET + 1));
}

static void test_it_ends_with_the_long_waits(void **state)
{
    (void)state;
    struct shed shed = {0};
    look_often(&shed, 0, 10000 * MS, 2 * TARGET);
    assert_int_equal(look_often(&shed, 10000 * MS, 10550 * MS, 1 * MS), 0);
    assert_int_equal(look_often(&shed, 10550 * MS, 10590 * MS, 2 * TARGET), 0); /* a burst again */
    assert_int_equal(look_often(&shed, 10590 * MS, 12000 * MS, 1 * MS), 0);
    assert_int_equal(shed.pressure, 0);
}

static void test_an_idle_time_counts_as_what_comes_after_it(void **state)
{
    (void)state;
    struct shed shed = {0};
    look_often(&shed, 0, 10000 * MS, 2 * TARGET);
    for (unsigned i = 1; i <= 4; i++)
        assert_false(look(&shed, i * 60000 * MS, 1 * MS));
    assert_int_equal(shed.pressure, 0);
}

/* Whatever it says, and however long the worker had nothing to do. */
static void test_one_request_decides_nothing(void **state)
{
    (void)state;
    static const uint64_t waits[] = {TARGET + 1, 2 * TARGET, 3600 * 1000 * MS, UINT64_MAX};
    for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++) {
        struct shed shed = {0};
        assert_false(look(&shed, 0, waits[i]));
        shed = (struct shed){0};
        look(&shed, 0, 1 * MS);
        assert_false(look(&shed, 3600 * 1000 * MS, waits[i]));
        assert_false(look(&shed, 3600 * 1000 * MS + 10 * MS, TARGET + 1));
    }
}

/* Calls that take long are few: each stands for the time since the one before. */
static void test_long_calls(void **state)
{
    (void)state;
    struct shed shed = {0};
    look(&shed, 0, 1 * MS);
    assert_false(look(&shed, 30000 * MS, 30000 * MS));
    assert_true(look(&shed, 60000 * MS, 60000 * MS));
}

static void test_a_wait_says_no_more_than_it_says(void **state)
{
    (void)state;
    struct shed shed = {0};
    for (unsigned i = 0; i < 1000; i++)
        assert_false(look(&shed, i * 10000 * MS, TARGET + MS / 10));
    assert_int_equal(shed.pressure, 1000 * MS / 10);
}

static void test_the_interval_has_a_least_length(void **state)
{
    (void)state;
    struct shed shed = {0};
    unsigned refused = 0;
    shed_look(&shed, START, 1, 1 * MS);
    for (unsigned i = 1; i < 20; i++)
        refused += shed_look(&shed, START + i * 5 * MS, 1000 * MS, 1 * MS);
    assert_int_equal(refused, 0);
    assert_true(shed_look(&shed, START + 100 * MS, 1000 * MS, 1 * MS));
}

/* --- a queue and its workers --- */

#define WORKERS 4u
#define SERVICE (8 * MS)

struct outcome {
    unsigned served, refused;
    uint64_t longest; /* wait of those that were served in the second half of the time, ns */
};

static unsigned next_free(const uint64_t *free)
{
    unsigned next = 0;
    for (unsigned i = 1; i < WORKERS; i++)
        if (free[i] < free[next])
            next = i;
    return next;
}

/* Requests come one every `gap`, for `length`, to workers that take them up in order; each liar'th says that
 * it has just been sent. 0: none does. */
static struct outcome simulate(uint64_t gap, uint64_t length, unsigned liar)
{
    struct shed sheds[WORKERS] = {0};
    uint64_t free[WORKERS] = {0};
    struct outcome outcome = {0};
    for (uint64_t i = 0, arrival = MS; arrival < length; i++, arrival += gap) {
        unsigned worker = next_free(free);
        uint64_t now = free[worker] > arrival ? free[worker] : arrival;
        uint64_t wait = now - arrival + 1;
        bool lies = liar && i % liar == 0;
        bool refused = shed_look(&sheds[worker], START + now, lies ? 1 : wait, TARGET);
        outcome.refused += refused;
        outcome.served += !refused;
        free[worker] = now + (refused ? MS / 100 : SERVICE);
        if (!refused && arrival > length / 2 && wait > outcome.longest)
            outcome.longest = wait;
    }
    return outcome;
}

/* Twice what the workers can do: they stay busy with half of it, which waits for hardly more than the target.
 */
static void test_overload(void **state)
{
    (void)state;
    struct outcome outcome = simulate(SERVICE / WORKERS / 2, 60000 * MS, 0);
    assert_in_range(outcome.served, 29000, 31000);
    assert_in_range(outcome.refused, 29000, 31000);
    assert_in_range(outcome.longest, TARGET / 2, TARGET + TARGET / 5);
}

static void test_a_little_too_much(void **state)
{
    (void)state;
    struct outcome outcome = simulate(SERVICE * 95 / 100 / WORKERS, 60000 * MS, 0);
    assert_in_range(outcome.served, 29900, 30300);
    assert_in_range(outcome.longest, TARGET / 2, TARGET + TARGET / 5);
}

static void test_no_overload(void **state)
{
    (void)state;
    assert_int_equal(simulate(SERVICE / WORKERS + 1, 60000 * MS, 0).refused, 0);
}

/* What one of ten clients says about itself does not have the others wait. */
static void test_liars(void **state)
{
    (void)state;
    struct outcome outcome = simulate(SERVICE / WORKERS / 2, 60000 * MS, 10);
    assert_in_range(outcome.served, 29000, 31000);
    assert_in_range(outcome.longest, TARGET / 2, TARGET + TARGET / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_waits_are_never_refused),
        cmocka_unit_test(test_unknown_waits_mean_nothing),
        cmocka_unit_test(test_a_burst_is_let_pass),
        cmocka_unit_test(test_a_standing_queue_is_not),
        cmocka_unit_test(test_it_ends_with_the_long_waits),
        cmocka_unit_test(test_an_idle_time_counts_as_what_comes_after_it),
        cmocka_unit_test(test_one_request_decides_nothing),
        cmocka_unit_test(test_long_calls),
        cmocka_unit_test(test_a_wait_says_no_more_than_it_says),
        cmocka_unit_test(test_the_interval_has_a_least_length),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_a_little_too_much),
        cmocka_unit_test(test_no_overload),
        cmocka_unit_test(test_liars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
