#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"
#include "random.h"

/* In a block of exactly that size, so that the sanitizer sees a read beyond what was received. */
static enum frame_progress check_exact(const void *bytes, size_t received, uint32_t max_length)
{
    unsigned char *block = malloc(received + (received == 0));
    assert_non_null(block);
    memcpy(block, bytes, received);
    enum frame_progress progress = frame_check(block, received, max_length);
    free(block);
    return progress;
}

/* A frame's header with `received` bytes in all; frame_check() looks at no others. */
static enum frame_progress check_length(uint32_t length, size_t received, uint32_t max_length)
{
    unsigned char header[FRAME_HEADER_SIZE];
    frame_put_length(header, length);
    return frame_check(header, received, max_length);
}

static void test_the_length_word_is_big_endian(void **state)
{
    (void)state;
    unsigned char header[6] = {0xaa, 0, 0, 0, 0, 0xbb};
    frame_put_length(header + 1, 0x01020304);
    assert_memory_equal(header, "\xaa\1\2\3\4\xbb", 6);
    frame_put_length(header + 1, 0xfffefdfc);
    assert_memory_equal(header, "\xaa\xff\xfe\xfd\xfc\xbb", 6);
    assert_int_equal(frame_get_length((const unsigned char *)"\x80\0\0\1"), 0x80000001);
    assert_int_equal(frame_get_length((const unsigned char *)"\0\0\0\0"), 0);
    assert_int_equal(frame_get_length((const unsigned char *)"\0\1\0\0"), 65536);
}

static void test_lengths_come_back(void **state)
{
    (void)state;
    struct random random = {7};
    unsigned char header[FRAME_HEADER_SIZE];
    for (unsigned i = 0; i < 10000; i++) {
        uint32_t length = (uint32_t)(random_next(&random) >> 32);
        frame_put_length(header, length);
        assert_int_equal(frame_get_length(header), length);
    }
}

static void test_no_header_no_verdict(void **state)
{
    (void)state;
    for (size_t received = 0; received < FRAME_HEADER_SIZE; received++) {
        assert_int_equal(check_exact("\0\0\0\0", received, 100), FRAME_PARTIAL);
        assert_int_equal(check_exact("\xff\xff\xff\xff", received, 100), FRAME_PARTIAL);
    }
}

static void test_lengths_that_are_refused(void **state)
{
    (void)state;
    assert_int_equal(check_exact("\0\0\0\0", 4, 100), FRAME_INVALID);
    assert_int_equal(check_exact("\0\0\0\0\1", 5, 100), FRAME_INVALID);
    assert_int_equal(check_exact("\0\0\0\x65", 4, 100), FRAME_INVALID);
    assert_int_equal(check_exact("\0\0\0\x64", 4, 100), FRAME_PARTIAL);
    assert_int_equal(check_exact("\xff\xff\xff\xff", 4, FRAME_MAX_LIMIT), FRAME_INVALID);
    assert_int_equal(check_exact("\x80\0\0\0", 4, FRAME_MAX_LIMIT), FRAME_INVALID);
    assert_int_equal(check_exact("\x7f\xff\xff\xff", 4, FRAME_MAX_LIMIT), FRAME_PARTIAL);
}

static void test_complete_to_the_byte(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {1, 2, 255, 256, 65535, 65536, 1 << 26, FRAME_MAX_LIMIT};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        size_t whole = FRAME_HEADER_SIZE + (size_t)lengths[i];
        assert_int_equal(check_length(lengths[i], FRAME_HEADER_SIZE, FRAME_MAX_LIMIT), FRAME_PARTIAL);
        assert_int_equal(check_length(lengths[i], whole - 1, FRAME_MAX_LIMIT), FRAME_PARTIAL);
        assert_int_equal(check_length(lengths[i], whole, FRAME_MAX_LIMIT), FRAME_COMPLETE);
        assert_int_equal(check_length(lengths[i], whole + 1, FRAME_MAX_LIMIT), FRAME_COMPLETE);
        assert_int_equal(check_length(lengths[i], SIZE_MAX, FRAME_MAX_LIMIT), FRAME_COMPLETE);
        assert_int_equal(check_length(lengths[i], whole, lengths[i]), FRAME_COMPLETE);
        assert_int_equal(check_length(lengths[i], whole, lengths[i] - 1), FRAME_INVALID);
    }
}

/* One byte of any frame that may be sent makes the word differ from that of an untouched buffer. */
static void test_the_first_byte_shows_that_a_frame_began(void **state)
{
    (void)state;
    unsigned char longest[FRAME_HEADER_SIZE], nothing[FRAME_HEADER_SIZE];
    frame_put_length(longest, FRAME_MAX_LIMIT);
    memset(nothing, 0xff, sizeof(nothing));
    assert_int_equal(frame_get_length(nothing), FRAME_NOTHING);
    for (unsigned first = 0; first <= longest[0]; first++) {
        nothing[0] = (unsigned char)first;
        assert_int_not_equal(frame_get_length(nothing), FRAME_NOTHING);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_length_word_is_big_endian),
        cmocka_unit_test(test_lengths_come_back),
        cmocka_unit_test(test_no_header_no_verdict),
        cmocka_unit_test(test_lengths_that_are_refused),
        cmocka_unit_test(test_complete_to_the_byte),
        cmocka_unit_test(test_the_first_byte_shows_that_a_frame_began),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
