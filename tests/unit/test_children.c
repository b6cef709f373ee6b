#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <limits.h>

#include <cmocka.h>

#include "children.h"

#define MS UINT64_C(1000000)

static void test_backoff_doubles_to_five_seconds(void **state)
{
    (void)state;
    static const uint64_t expected_ms[] = {0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    for (unsigned i = 0; i < sizeof(expected_ms) / sizeof(*expected_ms); i++)
        assert_int_equal(children_backoff(i), expected_ms[i] * MS);
    assert_int_equal(children_backoff(64), 5000 * MS);
    assert_int_equal(children_backoff(UINT_MAX), 5000 * MS);
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
    struct child child = {.number = 2, .birth = 8, .pid = 99, .stopped = true, .failures = 3, .retry_at = 5};
    child_begin(&child, 4, 12345);
    assert_int_equal(child.state, CHILD_STARTING);
    assert_int_equal(child.number, 2);
    assert_int_equal(child.birth, 9);
    assert_int_equal(child.pid, 0);
    assert_int_equal(child.generation, 4);
    assert_int_equal(child.born_at, 12345);
    assert_false(child.stopped);
    assert_int_equal(child.failures, 3);
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

static void test_a_worker_that_served_is_replaced_at_once(void **state)
{
    (void)state;
    static const enum child_state served[] = {CHILD_READY, CHILD_LEAVING};
    for (size_t i = 0; i < sizeof(served) / sizeof(*served); i++) {
        struct child child = {.number = 1};
        child_begin(&child, 1, 10);
        child_ready(&child);
        assert_int_equal(child.state, CHILD_READY);
        child.state = served[i];
        child.pid = 77;
        child.stopped = true;
        assert_true(child_end(&child, 1000));
        assert_int_equal(child.state, CHILD_NONE);
        assert_int_equal(child.pid, 0);
        assert_false(child.stopped);
        assert_int_equal(child.failures, 0);
        assert_int_equal(child.retry_at, 0);
        assert_true(child_due(&child, 1000));
    }
}

static void test_births_that_fail_wait_longer_and_longer(void **state)
{
    (void)state;
    struct child child = {.number = 1};
    uint64_t now = 1000;
    for (unsigned failures = 1; failures < 20; failures++) {
        assert_true(child_due(&child, now));
        child_begin(&child, 1, now);
        assert_false(child_end(&child, now + 3));
        assert_int_equal(child.failures, failures);
        assert_int_equal(child.retry_at, now + 3 + children_backoff(failures));
        now = child.retry_at;
        assert_false(child_due(&child, now - 1));
        assert_true(child_due(&child, now));
    }
    assert_int_equal(child.birth, 19);
}

static void test_readiness_forgets_failures(void **state)
{
    (void)state;
    struct child child = {.number = 1};
    for (unsigned i = 0; i < 5; i++) {
        child_begin(&child, 1, 0);
        child_end(&child, 0);
    }
    child_begin(&child, 1, 0);
    child_ready(&child);
    assert_int_equal(child.failures, 0);
    assert_true(child_end(&child, 7));
    assert_true(child_due(&child, 7));
    child_begin(&child, 1, 7);
    assert_false(child_end(&child, 7));
    assert_int_equal(child.retry_at, 7 + 100 * MS);
}

static void test_births_tell_successors_apart(void **state)
{
    (void)state;
    struct child child = {.number = 1};
    uint64_t last = child.birth;
    for (unsigned i = 0; i < 100; i++) {
        child_begin(&child, i, i);
        assert_true(child.birth > last);
        last = child.birth;
        if (i % 3)
            child_ready(&child);
        child_end(&child, i);
        assert_int_equal(child.birth, last);
    }
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
        cmocka_unit_test(test_backoff_doubles_to_five_seconds),
        cmocka_unit_test(test_a_new_child_is_due_at_once),
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_only_a_missing_process_is_due),
        cmocka_unit_test(test_a_worker_that_served_is_replaced_at_once),
        cmocka_unit_test(test_births_that_fail_wait_longer_and_longer),
        cmocka_unit_test(test_readiness_forgets_failures),
        cmocka_unit_test(test_births_tell_successors_apart),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests_name("children", tests, NULL, NULL);
}
