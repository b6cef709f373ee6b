#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "envelope.h"

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define BYTES(literal) (literal), sizeof(literal) - 1
#define DEADLINE                                                                                             \
    "\xa8\x64"                                                                                               \
    "eadline"
#define TIMEOUT "\xa7timeout"

/* Reads [0, 7, "ping", [], meta], in a block of exactly that size. */
static enum envelope_result read_meta(const void *meta, size_t size, struct envelope_request *request)
{
    static const char before[] = "\x95\x00\x07\xa4ping\x90";
    size_t start = sizeof(before) - 1;
    unsigned char *body = malloc(start + size);
    const char *why = NULL;
    assert_non_null(body);
    memcpy(body, before, start);
    memcpy(body + start, meta, size);
    enum envelope_result result = envelope_read_request(body, start + size, request, &why);
    free(body);
    assert_true(request->has_msgid);
    assert_int_equal(request->msgid, 7);
    assert_true(result == ENVELOPE_OK || why != NULL);
    return result;
}

static void expect(const void *meta, size_t size, enum envelope_result result)
{
    struct envelope_request request;
    assert_int_equal(read_meta(meta, size, &request), result);
}

static void expect_deadline(const void *meta, size_t size, uint64_t deadline)
{
    struct envelope_request request;
    assert_int_equal(read_meta(meta, size, &request), ENVELOPE_OK);
    assert_true(request.has_deadline);
    assert_int_equal(request.deadline, deadline);
    assert_false(request.has_timeout);
}

static void expect_timeout(const void *meta, size_t size, double timeout)
{
    struct envelope_request request;
    assert_int_equal(read_meta(meta, size, &request), ENVELOPE_OK);
    assert_true(request.has_timeout);
    assert_true(request.timeout == timeout);
    assert_false(request.has_deadline);
}

static void expect_nothing(const void *meta, size_t size)
{
    struct envelope_request request;
    assert_int_equal(read_meta(meta, size, &request), ENVELOPE_OK);
    assert_false(request.has_deadline);
    assert_false(request.has_timeout);
}

static void test_deadlines(void **state)
{
    (void)state;
    expect_deadline(BYTES("\x81" DEADLINE "\x00"), 0);
    expect_deadline(BYTES("\x81" DEADLINE "\x7f"), 127);
    expect_deadline(BYTES("\x81" DEADLINE "\xcc\xff"), 255);
    expect_deadline(BYTES("\x81" DEADLINE "\xcd\x01\x02"), 0x102);
    expect_deadline(BYTES("\x81" DEADLINE "\xce\x01\x02\x03\x04"), 0x1020304);
    expect_deadline(BYTES("\x81" DEADLINE "\xcf\x01\x02\x03\x04\x05\x06\x07\x08"),
                    UINT64_C(0x102030405060708));
    expect_deadline(BYTES("\x81" DEADLINE "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX);
    expect_deadline(BYTES("\x81" DEADLINE "\xd0\x7f"), 127);
    expect_deadline(BYTES("\x81" DEADLINE "\xd1\x7f\xff"), 0x7fff);
    expect_deadline(BYTES("\x81" DEADLINE "\xd2\x01\x02\x03\x04"), 0x1020304);
    expect_deadline(BYTES("\x81" DEADLINE "\xd3\x01\x02\x03\x04\x05\x06\x07\x08"),
                    UINT64_C(0x102030405060708));
    expect_deadline(BYTES("\x81" DEADLINE "\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
    expect_deadline(BYTES("\x81\xd9\x08\x64"
                          "eadline\x05"),
                    5);
    expect_deadline(BYTES("\xde\0\1" DEADLINE "\x05"), 5);
    expect_deadline(BYTES("\xdf\0\0\0\1" DEADLINE "\x05"), 5);
    expect_deadline(BYTES("\x82" DEADLINE "\x05" DEADLINE "\x06"), 6);
}

static void test_deadlines_that_are_none(void **state)
{
    (void)state;
    expect(BYTES("\x81" DEADLINE "\xff"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xd0\x80"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xd1\x80\0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xd2\xff\xff\xff\xfe"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xd3\x80\0\0\0\0\0\0\0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xcb\x3f\xf0\0\0\0\0\0\0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xa1"
                 "5"),
           ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\xc0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" DEADLINE "\x90"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x82\x01\x02" DEADLINE "\xc3"), ENVELOPE_BAD_REQUEST);
}

static void test_timeouts(void **state)
{
    (void)state;
    expect_timeout(BYTES("\x81" TIMEOUT "\xcb\x3f\xe0\0\0\0\0\0\0"), 0.5);
    expect_timeout(BYTES("\x81" TIMEOUT "\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), 0.1);
    expect_timeout(BYTES("\x81" TIMEOUT "\xca\x3e\x80\0\0"), 0.25);
    expect_timeout(BYTES("\x81" TIMEOUT "\xcb\0\0\0\0\0\0\0\0"), 0);
    expect_timeout(BYTES("\x81" TIMEOUT "\xcb\x80\0\0\0\0\0\0\0"), 0); /* -0.0 */
    expect_timeout(BYTES("\x81" TIMEOUT "\xcb\x7f\xf0\0\0\0\0\0\0"), (double)INFINITY);
    expect_timeout(BYTES("\x81" TIMEOUT "\x1e"), 30);
    expect_timeout(BYTES("\x81" TIMEOUT "\xcd\x01\x2c"), 300);
    expect_timeout(BYTES("\x81" TIMEOUT "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), 18446744073709551616.0);
    expect_timeout(BYTES("\x81" TIMEOUT "\xd1\x01\x2c"), 300);
    expect_timeout(BYTES("\x82" TIMEOUT "\x01" TIMEOUT "\x02"), 2);
}

static void test_timeouts_that_are_none(void **state)
{
    (void)state;
    expect(BYTES("\x81" TIMEOUT "\xcb\x7f\xf8\0\0\0\0\0\0"), ENVELOPE_BAD_REQUEST); /* NaN */
    expect(BYTES("\x81" TIMEOUT "\xcb\xff\xf8\0\0\0\0\0\1"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xca\x7f\xc0\0\0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xcb\xbf\xf0\0\0\0\0\0\0"), ENVELOPE_BAD_REQUEST); /* -1.0 */
    expect(BYTES("\x81" TIMEOUT "\xca\xbf\x80\0\0"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xcb\x80\0\0\0\0\0\0\1"), ENVELOPE_BAD_REQUEST);   /* just below 0 */
    expect(BYTES("\x81" TIMEOUT "\xcb\xff\xf0\0\0\0\0\0\0"), ENVELOPE_BAD_REQUEST); /* -infinity */
    expect(BYTES("\x81" TIMEOUT "\xff"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xd0\xff"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xa1"
                 "1"),
           ENVELOPE_BAD_REQUEST);
    expect(BYTES("\x81" TIMEOUT "\xc0"), ENVELOPE_BAD_REQUEST);
}

static void test_a_bad_value_is_not_used(void **state)
{
    (void)state;
    struct envelope_request request;
    assert_int_equal(read_meta(BYTES("\x82" TIMEOUT "\x01" TIMEOUT "\xff"), &request), ENVELOPE_BAD_REQUEST);
    assert_false(request.has_timeout);
    assert_int_equal(read_meta(BYTES("\x82" DEADLINE "\x01" DEADLINE "\xff"), &request),
                     ENVELOPE_BAD_REQUEST);
    assert_false(request.has_deadline);
}

static void test_other_keys_are_ignored(void **state)
{
    (void)state;
    expect_nothing(BYTES("\x80"));
    expect_nothing(BYTES("\x81\xabtraceparent\xd9\x02zz"));
    expect_nothing(BYTES("\x81\xa4sent\xcf\0\0\0\0\0\0\0\1"));
    expect_nothing(BYTES("\x81\xa7\x64"
                         "eadlin\x01"));
    expect_nothing(BYTES("\x81\xa9\x64"
                         "eadlines\x01"));
    expect_nothing(BYTES("\x81\xa7Timeout\x01"));
    expect_nothing(BYTES("\x81\xa8timeout\0\x01"));
    expect_nothing(BYTES("\x81\xa0\x01"));
    expect_nothing(BYTES("\x81\xc4\x07timeout\x01")); /* bin, not str */
    expect_nothing(BYTES("\x83\x01\x02\xc0\xc3\xcb\0\0\0\0\0\0\0\0\x93\1\2\3"));
    expect_nothing(BYTES("\x82\x92" TIMEOUT "\x01\x02\x81" TIMEOUT "\x01\x02"));
    expect_nothing(BYTES("\x81\xa1x\x81" TIMEOUT "\x01"));
    expect_timeout(BYTES("\x83\x01\x90\xa1x\xc0" TIMEOUT "\x03"), 3);
    expect_timeout(BYTES("\x82" TIMEOUT "\x03\xc0\xc0"), 3);
}

static void test_malformed_meta(void **state)
{
    (void)state;
    expect(BYTES("\x81"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\x01"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xa1x"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xc1\x01"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xa1x\xc1"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xa5x\x01"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x80\x80"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\x01\x02\x03"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\xdf\xff\xff\xff\xff"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\xdf\xff\xff\xff\xff\x01\x02\x03\x04"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\xde\xff\xff\x01\x02"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xa1x\xdd\xff\xff\xff\xff"), ENVELOPE_BAD_FRAME);
    expect(BYTES("\x81\xdb\xff\xff\xff\xff\x01"), ENVELOPE_BAD_FRAME);
}

/* As many entries as a map 16 has: the last one counts as much as the first. */
static void test_a_large_meta(void **state)
{
    (void)state;
    const size_t others = 65534, size = 3 + 2 * others + sizeof(TIMEOUT);
    unsigned char *meta = calloc(1, size);
    assert_non_null(meta);
    memcpy(meta, "\xde\xff\xff", 3);
    memcpy(meta + 3 + 2 * others, TIMEOUT "\x04", sizeof(TIMEOUT));
    expect_timeout(meta, size, 4);
    for (size_t cut = 1; cut < 30; cut++) {
        struct envelope_request request;
        assert_int_not_equal(read_meta(meta, size - cut, &request), ENVELOPE_OK);
    }
    free(meta);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_deadlines_that_are_none),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_timeouts_that_are_none),
        cmocka_unit_test(test_a_bad_value_is_not_used),
        cmocka_unit_test(test_other_keys_are_ignored),
        cmocka_unit_test(test_malformed_meta),
        cmocka_unit_test(test_a_large_meta),
    };
    return cmocka_run_group_tests_name("envelope_meta", tests, NULL, NULL);
}
