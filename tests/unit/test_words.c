#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/words.h"

static int split(struct words *words, const char *text, char *why)
{
    return words_split(words, text, strlen(text), why, 100);
}

static void test_lines(void **state)
{
    struct words words;
    char why[100];
    (void)state;
    assert_int_equal(split(&words, "one\n\ntwo words\r\n\xc3\xa4", why), 0);
    assert_int_equal(words.count, 3);
    assert_int_equal(words.longest, 9);
    assert_int_equal(words.items[0].size, 3);
    assert_memory_equal(words.items[1].text, "two words", 9);
    assert_int_equal(words.items[1].size, 9);
    assert_int_equal(words.items[2].size, 2);
    words_free(&words);
}

static void test_what_is_no_word(void **state)
{
    struct words words;
    char why[100];
    (void)state;
    assert_int_equal(split(&words, "", why), -1);
    assert_int_equal(split(&words, "\n\r\n\n", why), -1);
    assert_non_null(strstr(why, "no word"));
    assert_int_equal(split(&words, "good\nbad \xff\n", why), -1);
    assert_string_equal(why, "line 2 is not UTF-8");
}

static void test_a_line_that_is_too_long(void **state)
{
    struct words words;
    char why[100];
    char *text = malloc(WORDS_LONGEST + 1);
    (void)state;
    assert_non_null(text);
    memset(text, 'x', WORDS_LONGEST + 1);
    assert_int_equal(words_split(&words, text, WORDS_LONGEST + 1, why, sizeof(why)), -1);
    assert_non_null(strstr(why, "line 1"));
    assert_int_equal(words_split(&words, text, WORDS_LONGEST, why, sizeof(why)), 0);
    assert_int_equal(words.longest, WORDS_LONGEST);
    words_free(&words);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_what_is_no_word),
        cmocka_unit_test(test_a_line_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
