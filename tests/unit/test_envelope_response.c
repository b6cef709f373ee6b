#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "envelope.h"

#define BYTES(literal) (const unsigned char *)(literal), sizeof(literal) - 1

/* From bytes of exactly their size, so that the sanitizer sees a step beyond. */
static bool read_bytes(const unsigned char *bytes, size_t size, struct envelope_response *response)
{
    unsigned char *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    memset(response, 0xee, sizeof(*response));
    bool good = envelope_read_response(copy, size, response);
    response->code = response->reason = response->message = NULL;
    free(copy);
    return good;
}

static void expect_result(const unsigned char *bytes, size_t size, uint32_t msgid)
{
    struct envelope_response response;
    assert_true(read_bytes(bytes, size, &response));
    assert_true(response.has_msgid);
    assert_false(response.failed);
    assert_int_equal(response.msgid, msgid);
}

static void refuse(const unsigned char *bytes, size_t size)
{
    struct envelope_response response;
    assert_false(read_bytes(bytes, size, &response));
}

static void test_results(void **state)
{
    (void)state;
    expect_result(BYTES("\x94\x01\x07\xc0\x2a"), 7);
    expect_result(BYTES("\xdc\x00\x04\xcc\x01\xce\xff\xff\xff\xff\xc0\xa1x"), UINT32_MAX);
    expect_result(BYTES("\x94\x01\x07\xc0"), 7); /* the result need not be there */
}

static void test_what_is_no_response(void **state)
{
    (void)state;
    refuse(BYTES(""));
    refuse(BYTES("\x95\x01\x07\xc0\xc0\xc0"));
    refuse(BYTES("\x94\x00\x07\xa1x\x90"));
    refuse(BYTES("\x94\x01\xa1x\xc0\xc0"));
    refuse(BYTES("\x94\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xc0\xc0"));
    refuse(BYTES("\x94\x01\x07"));
    refuse(BYTES("\x94\x01\x07\xa1x\xc0"));
    refuse(BYTES("\x94\x01\xc0\xc0\xc0")); /* neither a msgid nor an error */
}

static void expect_bytes(const char *string, uint32_t length, const char *wanted)
{
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(string, wanted, length);
}

static size_t write_error(unsigned char frame[ENVELOPE_ERROR_MAX], bool has_msgid)
{
    return envelope_write_error(
        frame, has_msgid, 5,
        &(struct envelope_error){
            .code = "INTERNAL", .reason = "ENGINE_CRASHED", .message = "it crashed", .signal = "SIGSEGV"});
}

static void test_errors(void **state)
{
    unsigned char frame[ENVELOPE_ERROR_MAX];
    struct envelope_response response;
    (void)state;
    for (int has_msgid = 0; has_msgid < 2; has_msgid++) {
        size_t size = write_error(frame, has_msgid) - FRAME_HEADER_SIZE;
        assert_true(envelope_read_response(frame + FRAME_HEADER_SIZE, size, &response));
        assert_int_equal(response.has_msgid, has_msgid);
        assert_true(response.failed);
        expect_bytes(response.code, response.code_length, "INTERNAL");
        expect_bytes(response.reason, response.reason_length, "ENGINE_CRASHED");
        expect_bytes(response.message, response.message_length, "it crashed");
    }
}

static void test_errors_cut_anywhere(void **state)
{
    unsigned char frame[ENVELOPE_ERROR_MAX];
    size_t size = write_error(frame, true) - FRAME_HEADER_SIZE;
    (void)state;
    for (size_t cut = 0; cut + 1 < size; cut++)
        refuse(frame + FRAME_HEADER_SIZE, cut);
}

static void test_errors_of_another_form(void **state)
{
    struct envelope_response response;
    (void)state;
    assert_true(envelope_read_response(BYTES("\x94\x01\x07\x80\xc0"), &response));
    assert_true(response.failed);
    assert_null(response.code);
    assert_true(envelope_read_response(BYTES("\x94\x01\x07\x84\x01\x02\xa4"
                                             "code\x05\xa6reason\xa1R\xa1x\x91\xc0\xc0"),
                                       &response));
    assert_null(response.code);
    expect_bytes(response.reason, response.reason_length, "R");
    refuse(BYTES("\x94\x01\x07\xdf\xff\xff\xff\xff\xa4"
                 "code"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_what_is_no_response),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_errors_cut_anywhere),
        cmocka_unit_test(test_errors_of_another_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
