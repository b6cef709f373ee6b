#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <limits.h>

#include <cmocka.h>

#include "children.h"

#define MS UINT64_C(1000000)

static void test_backoff_starts_after_three_failures(void **state)
{
    (void)state;
    static const uint64_t expected_ms[] = {0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    for (unsigned i = 0; i < sizeof(expected_ms) / sizeof(*expected_ms); i++)
        assert_int_equal(backoff_delay(i), expected_ms[i] * MS);
    assert_int_equal(backoff_delay(64), 5000 * MS);
    assert_int_equal(backoff_delay(UINT_MAX), 5000 * MS);
}

static void test_beginning(void **state)
{
    (void)state;
    struct child child = {.number = 2, .pid = 99, .stopped = true};
    child_begin(&child, 4, 12345);
    assert_int_equal(child.state, CHILD_STARTING);
    assert_int_equal(child.number, 2);
    assert_int_equal(child.pid, 0);
    assert_int_equal(child.generation, 4);
    assert_int_equal(child.born_at, 12345);
    assert_false(child.stopped);
}

/* Which processes were of use: those that were ready, and lived for a second or answered a request. */
static void test_what_is_a_failure(void **state)
{
    (void)state;
    static const struct {
        enum child_state state;
        uint64_t life_ns, answered;
        bool failure;
    } ends[] = {
        {CHILD_STARTING, 0, 0, true},
        {CHILD_STARTING, 3600000 * MS, 0, true}, /* a start() that took an hour to fail */
        {CHILD_STARTING, 3600000 * MS, 1, true},
        {CHILD_READY, 0, 0, true},
        {CHILD_READY, 1000 * MS - 1, 0, true},
        {CHILD_READY, 1000 * MS, 0, false},
        {CHILD_READY, 0, 1, false},
        {CHILD_READY, 3600000 * MS, UINT64_MAX, false},
        {CHILD_LEAVING, 0, 0, true},
        {CHILD_LEAVING, 1000 * MS - 1, 0, true},
        {CHILD_LEAVING, 1000 * MS, 0, false},
        {CHILD_LEAVING, 0, 1, false},
    };
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        for (unsigned before = 0; before < 12; before++) {
            struct child child = {.number = 1};
            uint64_t born = 12345 * MS, end = born + ends[i].life_ns;
            struct backoff backoff = {.failures = before, .noted_at = born};
            unsigned failures = ends[i].failure ? before + 1 : 0;
            child_begin(&child, 1, born);
            child.state = ends[i].state;
            struct life life = child_end(&child, end, ends[i].answered, false);
            backoff_note(&backoff, &life);
            assert_int_equal(backoff.failures, failures);
            assert_int_equal(backoff.retry_at, end + backoff_delay(failures));
        }
    }
}

static void test_an_end_leaves_nothing_behind(void **state)
{
    (void)state;
    static const enum child_state states[] = {CHILD_STARTING, CHILD_READY, CHILD_LEAVING};
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        struct child child = {.number = 1};
        child_begin(&child, 1, 10);
        child.state = states[i];
        child.pid = 77;
        child.stopped = true;
        struct life life = child_end(&child, 1000, i, false);
        assert_int_equal(child.state, CHILD_NONE);
        assert_int_equal(child.pid, 0);
        assert_false(child.stopped);
        assert_int_equal(life.served, states[i] != CHILD_STARTING);
        assert_int_equal(life.born_at, 10);
        assert_int_equal(life.ended_at, 1000);
        assert_int_equal(life.answered, i);
    }
}

static void test_failures_in_a_row_wait_longer_and_longer(void **state)
{
    (void)state;
    for (int ready = 0; ready < 2; ready++) {
        struct backoff backoff = {0};
        uint64_t now = 1000;
        for (unsigned failures = 1; failures < 20; failures++) {
            backoff_note(&backoff, &(struct life){.served = ready, .born_at = now, .ended_at = now + 3});
            assert_int_equal(backoff.failures, failures);
            assert_int_equal(backoff.retry_at, now + 3 + backoff_delay(failures));
            assert_int_equal(backoff_probes(&backoff), failures > BACKOFF_FREE);
            now = backoff.retry_at;
        }
    }
}

/* A whole pool whose engine fails in start() is one failure, not eight. */
static void test_those_that_lived_together_fail_once(void **state)
{
    (void)state;
    struct backoff backoff = {0};
    for (unsigned wave = 1; wave < 6; wave++) {
        uint64_t born = wave * 100000 * MS;
        for (unsigned i = 0; i < 8; i++)
            backoff_note(&backoff, &(struct life){.born_at = born + i, .ended_at = born + 100 + i});
        assert_int_equal(backoff.failures, wave);
        assert_int_equal(backoff.retry_at, born + 100 + backoff_delay(wave));
    }
}

/* An engine that crashes as soon as it is ready is ready each time: the next may come at once, but it counts.
 */
static void test_readiness_alone_forgets_no_failures(void **state)
{
    (void)state;
    struct backoff backoff = {.failures = 5, .retry_at = 900};
    backoff_ready(&backoff);
    assert_int_equal(backoff.failures, 5);
    assert_int_equal(backoff.retry_at, 0);
    assert_true(backoff_probes(&backoff));
    backoff.vain = 4;
    backoff_ready(&backoff);
    assert_int_equal(backoff.vain, 0);
    backoff_note(&backoff, &(struct life){.served = true, .born_at = 5, .ended_at = 7});
    assert_int_equal(backoff.vain, 0);
    assert_int_equal(backoff.failures, 6);
    assert_int_equal(backoff.retry_at, 7 + 400 * MS);
    backoff_note(&backoff,
                 &(struct life){.served = true, .born_at = 500 * MS, .ended_at = 501 * MS, .answered = 1});
    assert_int_equal(backoff.failures, 0);
    assert_int_equal(backoff.retry_at, 501 * MS);
    assert_false(backoff_probes(&backoff));
}

/* What is done to a process that serves is no failure of its own; what ends a start() may be. */
static void test_kills_from_outside(void **state)
{
    (void)state;
    static const struct {
        struct life life;
        unsigned failures_before, failures_after;
    } ends[] = {
        {{.served = true, .killed = true}, 0, 0},
        {{.served = true, .killed = true}, 7, 7},
        {{.served = true, .killed = true, .answered = 1}, 7, 0},
        {{.served = true, .killed = true, .ended_at = 1000 * MS}, 7, 0},
        {{.served = false, .killed = true}, 7, 8},
        {{.served = true, .killed = false}, 7, 8},
    };
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        struct backoff backoff = {.failures = ends[i].failures_before};
        struct life life = ends[i].life;
        unsigned after = ends[i].failures_after;
        backoff_note(&backoff, &life);
        assert_int_equal(backoff.failures, after);
        assert_int_equal(backoff.retry_at,
                         life.ended_at + (after > ends[i].failures_before ? backoff_delay(after) : 0));
    }
}

/* Those that end by themselves before they are ready weigh more than those that somebody kills. */
static void test_what_is_in_vain(void **state)
{
    (void)state;
    struct backoff backoff = {0};
    backoff_note(&backoff, &(struct life){.born_at = 1, .ended_at = 2});
    assert_int_equal(backoff.vain, 3);
    backoff_note(&backoff, &(struct life){.killed = true, .born_at = 3, .ended_at = 4});
    assert_int_equal(backoff.vain, 4);
    backoff_note(&backoff, &(struct life){.born_at = 3, .ended_at = 5}); /* of the same time */
    assert_int_equal(backoff.vain, 4);
}

static void test_labels(void **state)
{
    (void)state;
    char label[64];
    struct child child = {.number = 3, .pid = 4711};
    assert_ptr_equal(child_label(&child, label, sizeof(label)), label);
    assert_string_equal(label, "worker 3 (pid 4711)");
    child.pid = 0;
    assert_string_equal(child_label(&child, label, sizeof(label)), "worker 3");
    child.number = 0;
    child.pid = 5;
    assert_string_equal(child_label(&child, label, sizeof(label)), "stand-in (pid 5)");
    child.number = UINT_MAX;
    child.pid = INT_MAX;
    assert_string_equal(child_label(&child, label, sizeof(label)), "worker 4294967295 (pid 2147483647)");
    memset(label, 'x', sizeof(label));
    assert_string_equal(child_label(&child, label, 8), "worker ");
    assert_int_equal(label[8], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff_starts_after_three_failures),
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_what_is_a_failure),
        cmocka_unit_test(test_an_end_leaves_nothing_behind),
        cmocka_unit_test(test_failures_in_a_row_wait_longer_and_longer),
        cmocka_unit_test(test_those_that_lived_together_fail_once),
        cmocka_unit_test(test_readiness_alone_forgets_no_failures),
        cmocka_unit_test(test_kills_from_outside),
        cmocka_unit_test(test_what_is_in_vain),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests_name("children", tests, NULL, NULL);
}
