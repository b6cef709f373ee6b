#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/record.h"

#define SECOND UINT64_C(1000000000)
#define START  (100 * SECOND)
#define TEXT(literal)                                                                                        \
    (struct record_text)                                                                                     \
    {                                                                                                        \
        (literal), sizeof(literal) - 1                                                                       \
    }

static struct record record;

static int begin(void **state)
{
    (void)state;
    assert_int_equal(record_begin(&record, 2), 0);
    record.start = START;
    return 0;
}

static int end(void **state)
{
    (void)state;
    record_free(&record);
    return 0;
}

static void note_failure(const char *code, const char *reason)
{
    record_error(&record, START, (struct record_text){code, strlen(code)},
                 (struct record_text){reason, strlen(reason)}, TEXT("a message"));
}

static void test_calls_are_told_apart_and_added_up(void **state)
{
    struct histogram *sum = malloc(sizeof(*sum));
    (void)state;
    assert_non_null(sum);
    record_success(&record, 0, START + 10, 5);
    record_success(&record, 1, START + 20, 7);
    record_success(&record, 1, START + 30, 9);
    assert_int_equal(record.calls[0].total, 1);
    assert_int_equal(record.calls[1].total, 2);
    record_sum(&record, sum);
    assert_int_equal(sum->total, 3);
    assert_int_equal(sum->max, 9);
    assert_int_equal(record.last_end, START + 30);
    free(sum);
}

static void test_every_second_has_an_entry(void **state)
{
    (void)state;
    record_success(&record, 0, START, 100);
    record_success(&record, 0, START + SECOND - 1, 300);
    record_success(&record, 0, START + 3 * SECOND, 200);
    note_failure("A", "B");
    record_end(&record);
    assert_int_equal(record.second_count, 4);
    assert_int_equal(record.seconds[0].calls, 2);
    assert_int_equal(record.seconds[0].p50, 100);
    assert_int_equal(record.seconds[0].max, 300);
    assert_int_equal(record.seconds[1].calls, 0);
    assert_int_equal(record.seconds[2].calls, 0);
    assert_int_equal(record.seconds[3].calls, 1);
    assert_int_equal(record.seconds[3].max, 200);
    assert_int_equal(record.seconds[3].errors, 1);
}

static void test_an_empty_last_second_is_none(void **state)
{
    (void)state;
    record_success(&record, 0, START, 100);
    record_tick(&record, START + SECOND);
    record_tick(&record, START + SECOND + SECOND / 2);
    record_end(&record);
    assert_int_equal(record.second_count, 1);
}

static void test_errors_by_code_and_reason(void **state)
{
    (void)state;
    note_failure("INTERNAL", "ENGINE_CRASHED");
    note_failure("INTERNAL", "OTHER");
    note_failure("INTERNAL", "ENGINE_CRASHED");
    note_failure("INTERNAL", "");
    note_failure("", "X");
    assert_int_equal(record.errors, 5);
    assert_int_equal(record.kind_count, 4);
    assert_string_equal(record.kinds[0].name, "INTERNAL/ENGINE_CRASHED");
    assert_int_equal(record.kinds[0].count, 2);
    assert_string_equal(record.kinds[0].message, "a message");
    assert_string_equal(record.kinds[2].name, "INTERNAL");
    assert_string_equal(record.kinds[3].name, "UNKNOWN/X");
}

static void test_texts_of_any_length(void **state)
{
    char text[1000];
    (void)state;
    memset(text, 'x', sizeof(text));
    struct record_text all = {text, sizeof(text)};
    record_error(&record, START, all, all, all);
    record_error(&record, START, (struct record_text){NULL, 0}, (struct record_text){NULL, 0},
                 (struct record_text){NULL, 0});
    assert_int_equal(strlen(record.kinds[0].name), RECORD_NAME_SIZE - 1);
    assert_int_equal(strlen(record.kinds[0].message), RECORD_TEXT_SIZE - 1);
    assert_string_equal(record.kinds[1].name, "UNKNOWN");
    assert_string_equal(record.kinds[1].message, "");
}

static void test_more_kinds_than_are_told_apart(void **state)
{
    char reason[20];
    (void)state;
    for (int i = 0; i < RECORD_KINDS_MAX + 10; i++) {
        snprintf(reason, sizeof(reason), "R%d", i);
        note_failure("X", reason);
    }
    assert_int_equal(record.errors, RECORD_KINDS_MAX + 10);
    assert_int_equal(record.kind_count, RECORD_KINDS_MAX);
    assert_int_equal(record.kinds[RECORD_KINDS_MAX].count, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls_are_told_apart_and_added_up, begin, end),
        cmocka_unit_test_setup_teardown(test_every_second_has_an_entry, begin, end),
        cmocka_unit_test_setup_teardown(test_an_empty_last_second_is_none, begin, end),
        cmocka_unit_test_setup_teardown(test_errors_by_code_and_reason, begin, end),
        cmocka_unit_test_setup_teardown(test_texts_of_any_length, begin, end),
        cmocka_unit_test_setup_teardown(test_more_kinds_than_are_told_apart, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
