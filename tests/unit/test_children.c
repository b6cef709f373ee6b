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

static void test_a_new_child_is_due_at_once(void **state)
{
    (void)state;
    struct child child = {.number = 1};
    assert_true(child_due(&child, 0));
    assert_true(child_due(&child, UINT64_MAX));
}

static void test_beginning(void **state)
{
    (void)state;
    struct child child = {.number = 2, .pid = 99, .stopped = true, .backoff = {.failures = 3, .retry_at = 5}};
    child_begin(&child, 4, 12345);
    assert_int_equal(child.state, CHILD_STARTING);
    assert_int_equal(child.number, 2);
    assert_int_equal(child.pid, 0);
    assert_int_equal(child.generation, 4);
    assert_int_equal(child.born_at, 12345);
    assert_false(child.stopped);
    assert_int_equal(child.backoff.failures, 3);
}

static void test_only_a_missing_process_is_due(void **state)
{
    (void)state;
    struct child child = {.number = 1};
    static const enum child_state states[] = {CHILD_STARTING, CHILD_READY, CHILD_LEAVING};
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        child.state = states[i];
        assert_false(child_due(&child, UINT64_MAX));
    }
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
            struct child child = {.number = 1, .backoff.failures = before};
            uint64_t born = 12345 * MS, end = born + ends[i].life_ns;
            unsigned failures = ends[i].failure ? before + 1 : 0;
            child_begin(&child, 1, born);
            child.state = ends[i].state;
            child_end(&child, end, ends[i].answered, false);
            assert_int_equal(child.backoff.failures, failures);
            assert_int_equal(child.backoff.retry_at, end + backoff_delay(failures));
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
        child_end(&child, 1000, i, false);
        assert_int_equal(child.state, CHILD_NONE);
        assert_int_equal(child.pid, 0);
        assert_false(child.stopped);
        assert_true(child_due(&child, 1000)); /* the first failure is free */
    }
}

static void test_failures_in_a_row_wait_longer_and_longer(void **state)
{
    (void)state;
    for (int ready = 0; ready < 2; ready++) {
        struct child child = {.number = 1};
        uint64_t now = 1000;
        for (unsigned failures = 1; failures < 20; failures++) {
            assert_true(child_due(&child, now));
            child_begin(&child, 1, now);
            if (ready)
                child_ready(&child);
            child_end(&child, now + 3, 0, false);
            assert_int_equal(child.backoff.failures, failures);
            assert_int_equal(child.backoff.retry_at, now + 3 + backoff_delay(failures));
            assert_int_equal(child_due(&child, now + 3), failures <= 3);
            now = child.backoff.retry_at;
            assert_false(child_due(&child, now - 1));
            assert_true(child_due(&child, now));
        }
    }
}

/* An engine that crashes at its first request is ready each time. */
static void test_readiness_alone_forgets_no_failures(void **state)
{
    (void)state;
    struct child child = {.number = 1, .backoff.failures = 5};
    child_begin(&child, 1, 0);
    child_ready(&child);
    assert_int_equal(child.state, CHILD_READY);
    assert_int_equal(child.backoff.failures, 5);
    child_end(&child, 7, 0, false);
    assert_int_equal(child.backoff.failures, 6);
    assert_int_equal(child.backoff.retry_at, 7 + 400 * MS);
    child_begin(&child, 1, 500 * MS);
    child_ready(&child);
    child_end(&child, 500 * MS + 7, 1, false);
    assert_int_equal(child.backoff.failures, 0);
    assert_true(child_due(&child, 500 * MS + 7));
    child_begin(&child, 1, 501 * MS);
    child_end(&child, 501 * MS, 0, false);
    assert_int_equal(child.backoff.failures, 1);
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
    struct child child = {.number = 1, .backoff.failures = 9};
    child_begin(&child, 1, 5);
    child_ready(&child);
    child_end(&child, 6, 0, true);
    assert_true(child_due(&child, 6));
    assert_int_equal(child.backoff.failures, 9);
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
        cmocka_unit_test(test_a_new_child_is_due_at_once),
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_only_a_missing_process_is_due),
        cmocka_unit_test(test_what_is_a_failure),
        cmocka_unit_test(test_an_end_leaves_nothing_behind),
        cmocka_unit_test(test_failures_in_a_row_wait_longer_and_longer),
        cmocka_unit_test(test_readiness_alone_forgets_no_failures),
        cmocka_unit_test(test_kills_from_outside),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests_name("children", tests, NULL, NULL);
}
