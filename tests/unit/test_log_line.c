#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log_line.h"

static const struct tm noon = {
    .tm_year = 126, .tm_mon = 10, .tm_mday = 26, .tm_hour = 12, .tm_min = 5, .tm_sec = 9};

/* In a block of exactly the promised size, so that the sanitizer sees a step beyond it. */
static char *format(enum log_format format, enum log_level level, const struct log_fields *fields,
                    const char *message)
{
    char *line = malloc(LOG_LINE_SIZE);
    assert_non_null(line);
    const struct log_event event = {.level = level,
                                    .name = "worker_died",
                                    .fields = fields,
                                    .message = message,
                                    .process = 42,
                                    .date = noon,
                                    .ms = 7};
    size_t size = log_line_format(line, format, &event);
    assert_in_range(size, 1, LOG_LINE_SIZE);
    assert_int_equal(line[size - 1], '\n');
    assert_null(memchr(line, '\n', size - 1));
    char *text = strndup(line, size - 1);
    free(line);
    assert_non_null(text);
    return text;
}

static void expect(enum log_format as, const struct log_fields *fields, const char *message,
                   const char *wanted)
{
    char *text = format(as, LOG_WARN, fields, message);
    assert_string_equal(text, wanted);
    free(text);
}

static void test_text(void **state)
{
    (void)state;
    expect(LOG_TEXT, &(struct log_fields){.worker = 3}, "worker 3 died",
           "2026-11-26 12:05:09.007 cohabd[42] warn  worker 3 died");
    expect(LOG_TEXT, NULL, "two\nlines\x01\xff", "2026-11-26 12:05:09.007 cohabd[42] warn  two lines ?");
    expect(LOG_JOURNAL, NULL, "worker 3 died", "<4>worker 3 died");
}

#define JSON_START                                                                                           \
    "{\"time\":\"2026-11-26T12:05:09.007Z\",\"level\":\"warn\",\"event\":\"worker_died\",\"cohabd\":42,"

static void test_json(void **state)
{
    (void)state;
    expect(LOG_JSON, NULL, "hello", JSON_START "\"message\":\"hello\"}");
    expect(LOG_JSON,
           &(struct log_fields){.worker = 3, .pid = 77, .generation = 2, .engine = "echo", .cause = "why"},
           "hello",
           JSON_START
           "\"worker\":3,\"pid\":77,\"generation\":2,\"engine\":\"echo\",\"cause\":\"why\",\"message\":"
           "\"hello\"}");
    expect(LOG_JSON,
           &(struct log_fields){.method = "f",
                                .code = "OK",
                                .duration = 1500000000,
                                .queued = 1,
                                .has_call = true,
                                .request_bytes = 10,
                                .peer_pid = 5},
           "",
           JSON_START
           "\"method\":\"f\",\"code\":\"OK\",\"duration\":1.500000000,\"queued\":0.000000001,"
           "\"request_bytes\":10,\"response_bytes\":0,\"peer_pid\":5,\"peer_uid\":0,\"message\":\"\"}");
}

static void test_json_escapes(void **state)
{
    (void)state;
    expect(LOG_JSON, NULL, "a \"b\" \\ c\td\n\x7f",
           JSON_START "\"message\":\"a \\\"b\\\" \\\\ c\\u0009d\\u000a\\u007f\"}");
    expect(LOG_JSON, NULL, "\xc3\xa4 \xc3( \xff", JSON_START "\"message\":\"\xc3\xa4 \\ufffd( \\ufffd\"}");
    expect(LOG_JSON, &(struct log_fields){.cause = "x\ny"}, "",
           JSON_START "\"cause\":\"x\\u000ay\",\"message\":\"\"}");
}

/* What is too long is cut, and is whole JSON all the same. */
static void test_json_is_cut(void **state)
{
    (void)state;
    char *bad = malloc(LOG_LINE_SIZE);
    assert_non_null(bad);
    memset(bad, 1, LOG_LINE_SIZE - 1);
    bad[LOG_LINE_SIZE - 1] = '\0';
    char *text = format(LOG_JSON, LOG_WARN, NULL, bad);
    assert_int_equal(text[0], '{');
    assert_string_equal(text + strlen(text) - 8, "\\u0001\"}");
    assert_in_range(strlen(text), LOG_LINE_SIZE - 16, LOG_LINE_SIZE);
    free(text);
    text = format(
        LOG_JSON, LOG_WARN,
        &(struct log_fields){.cause = bad, .engine = bad, .method = bad, .report = bad, .path = bad}, bad);
    assert_string_equal(text + strlen(text) - 2, "\"}");
    free(text);
    free(bad);
}

static void test_text_is_cut(void **state)
{
    (void)state;
    char *long_text = malloc(2 * LOG_LINE_SIZE);
    assert_non_null(long_text);
    memset(long_text, 'x', 2 * LOG_LINE_SIZE - 1);
    long_text[2 * LOG_LINE_SIZE - 1] = '\0';
    char *text = format(LOG_TEXT, LOG_INFO, NULL, long_text);
    assert_int_equal(text[strlen(text) - 1], 'x');
    free(text);
    free(long_text);
}

static void expect_level(const char *line, int level)
{
    assert_int_equal(log_line_priority(line, strlen(line)), level);
}

static void test_priorities(void **state)
{
    (void)state;
    expect_level("<0>x", LOG_ERROR);
    expect_level("<3>x", LOG_ERROR);
    expect_level("<4>x", LOG_WARN);
    expect_level("<5>x", LOG_INFO);
    expect_level("<6>", LOG_INFO);
    expect_level("<7>x", LOG_DEBUG);
    expect_level("<8>x", -1);
    expect_level("<3", -1);
    expect_level("x<3>", -1);
    expect_level("", -1);
}

static void test_levels(void **state)
{
    (void)state;
    assert_int_equal(log_level_parse("warn"), LOG_WARN);
    assert_int_equal(log_level_parse("loud"), -1);
    assert_string_equal(log_level_name(LOG_DEBUG), "debug");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),         cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_escapes), cmocka_unit_test(test_json_is_cut),
        cmocka_unit_test(test_text_is_cut),  cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
