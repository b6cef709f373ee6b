#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/spec.h"

static void expect(const char *text, double weight, int count, ...)
{
    struct spec spec;
    char why[100];
    va_list words;
    assert_int_equal(spec_parse(&spec, text, why, sizeof(why)), 0);
    assert_true(spec.weight == weight);
    assert_int_equal(spec.count, count);
    va_start(words, count);
    for (int i = 0; i < count; i++)
        assert_string_equal(spec.words[i], va_arg(words, const char *));
    va_end(words);
    spec_free(&spec);
}

static void refuse(const char *text, const char *reason)
{
    struct spec spec;
    char why[100];
    assert_int_equal(spec_parse(&spec, text, why, sizeof(why)), -1);
    assert_non_null(strstr(why, reason));
}

static void test_words(void **state)
{
    (void)state;
    expect("echo", 1, 1, "echo");
    expect("  echo  1\ttwo\n", 1, 3, "echo", "1", "two");
    expect("echo {word:a} x{counter}", 1, 3, "echo", "{word:a}", "x{counter}");
}

static void test_weights(void **state)
{
    (void)state;
    expect("9:echo 1", 9, 2, "echo", "1");
    expect("0.5: echo", 0.5, 1, "echo");
    expect("echo 3:4", 1, 2, "echo", "3:4");
    expect("-1:echo", 1, 1, "-1:echo");
    refuse("0:echo", "weight");
    refuse("1e999:echo", "weight");
}

static void test_json_is_one_word(void **state)
{
    (void)state;
    expect("echo {\"a\": [1, 2]} [ ] \"two words\"", 1, 4, "echo", "{\"a\": [1, 2]}", "[ ]", "\"two words\"");
    expect("echo \"a \\\" b\" [\"]\", 1]", 1, 3, "echo", "\"a \\\" b\"", "[\"]\", 1]");
}

static void test_what_is_not_closed(void **state)
{
    (void)state;
    refuse("echo [1, 2", "not closed");
    refuse("echo \"a", "not closed");
    refuse("echo \"a\\", "not closed");
    refuse("", "no method");
    refuse("3: ", "no method");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_json_is_one_word),
        cmocka_unit_test(test_what_is_not_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
