#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watchdog.h"

#define PERIOD 3000u

static struct watchdog fresh(void)
{
    return (struct watchdog){.period = PERIOD};
}

static void expect(struct watchdog *watchdog, struct watchdog_view view, uint64_t now,
                   enum watchdog_step step)
{
    assert_int_equal(watchdog_next(watchdog, &view, now), step);
}

static void calls_that_complete_are_a_beat(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    expect(&watchdog, (struct watchdog_view){.calls = 1, .idle = 2}, 10, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.calls = 2, .idle = 2}, 10 + PERIOD / 3 - 1,
           WATCHDOG_DO_NOTHING);
    expect(&watchdog, (struct watchdog_view){.calls = 2, .idle = 2}, 10 + PERIOD / 3, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.calls = 2, .idle = 2}, 10 + PERIOD, WATCHDOG_DO_PROBE);
}

static void calls_of_a_worker_that_is_gone_are_no_call_lost(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    expect(&watchdog, (struct watchdog_view){.calls = 7, .idle = 1}, 10, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.calls = 7}, 10 + PERIOD, WATCHDOG_DO_NOTHING);
}

static void an_idle_pool_is_probed_until_it_answers(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    for (uint64_t now = 1; now < 10 * PERIOD; now += PERIOD)
        expect(&watchdog, (struct watchdog_view){.idle = 1}, now, WATCHDOG_DO_PROBE);
    expect(&watchdog, (struct watchdog_view){.idle = 1, .answered = true}, 10 * PERIOD, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.idle = 1}, 10 * PERIOD + 1, WATCHDOG_DO_NOTHING);
}

static void a_probe_s_own_call_is_no_sign_of_life(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    expect(&watchdog, (struct watchdog_view){.idle = 1, .answered = true}, 1, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.idle = 1, .calls = 1}, PERIOD, WATCHDOG_DO_PROBE);
    expect(&watchdog, (struct watchdog_view){.idle = 1, .calls = 2}, PERIOD, WATCHDOG_DO_BEAT);
    expect(&watchdog, (struct watchdog_view){.idle = 1, .calls = 3}, 2 * PERIOD, WATCHDOG_DO_BEAT);
}

static void a_full_pool_inside_its_deadlines_is_healthy(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    for (uint64_t now = 1; now < 10 * PERIOD; now += PERIOD)
        expect(&watchdog, (struct watchdog_view){.busy = 2}, now, WATCHDOG_DO_BEAT);
}

static void a_full_pool_past_a_deadline_is_not(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    expect(&watchdog, (struct watchdog_view){.busy = 2, .overdue = 1}, 1, WATCHDOG_DO_NOTHING);
    expect(&watchdog, (struct watchdog_view){.busy = 2, .overdue = 1, .idle = 1}, 2, WATCHDOG_DO_PROBE);
    expect(&watchdog, (struct watchdog_view){.busy = 2, .overdue = 1, .calls = 1}, 3, WATCHDOG_DO_BEAT);
}

static void no_worker_is_no_sign_of_life(void **state)
{
    (void)state;
    struct watchdog watchdog = fresh();
    for (uint64_t now = 1; now < 10 * PERIOD; now += PERIOD)
        expect(&watchdog, (struct watchdog_view){0}, now, WATCHDOG_DO_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_complete_are_a_beat),
        cmocka_unit_test(calls_of_a_worker_that_is_gone_are_no_call_lost),
        cmocka_unit_test(an_idle_pool_is_probed_until_it_answers),
        cmocka_unit_test(a_probe_s_own_call_is_no_sign_of_life),
        cmocka_unit_test(a_full_pool_inside_its_deadlines_is_healthy),
        cmocka_unit_test(a_full_pool_past_a_deadline_is_not),
        cmocka_unit_test(no_worker_is_no_sign_of_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
