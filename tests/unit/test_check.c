#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <msgpack.h>

#include "check.h"

#define UNTOUCHED    ((size_t)-7)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* In a block of exactly that size, so that the sanitizer sees a read beyond the end. */
static enum check_result check_exact(const void *data, size_t size, unsigned max_depth, size_t *length)
{
    unsigned char *block = malloc(size);
    assert_true(block != NULL || size == 0);
    if (size > 0)
        memcpy(block, data, size);
    *length = UNTOUCHED;
    enum check_result result = check_value(block, size, max_depth, length);
    free(block);
    return result;
}

static void assert_result(enum check_result expected, const void *data, size_t size, unsigned max_depth)
{
    size_t length;
    assert_int_equal(check_exact(data, size, max_depth, &length), expected);
    assert_int_equal(length, expected == CHECK_OK ? size : UNTOUCHED);
}

/* The whole is a value, no strict prefix is, and what follows is not touched. */
static void assert_value(const void *data, size_t size, unsigned max_depth)
{
    assert_result(CHECK_OK, data, size, max_depth);
    for (size_t shorter = 0; shorter < size; shorter++)
        assert_result(CHECK_MALFORMED, data, shorter, max_depth);

    unsigned char *longer = malloc(size + 2);
    assert_non_null(longer);
    memcpy(longer, data, size);
    longer[size] = 0xc1;
    longer[size + 1] = 0xdd;
    size_t length;
    assert_int_equal(check_exact(longer, size + 2, max_depth, &length), CHECK_OK);
    assert_int_equal(length, size);
    free(longer);
}

/* Bytes of a value by its first byte: header, then content of zero bytes (which are values themselves). */
static void test_every_format_byte(void **state)
{
    (void)state;
    static const struct {
        unsigned char first, last;
        const char *header; /* what follows the first byte */
        size_t header_size;
        size_t content;
    } formats[] = {
        {0x00, 0x7f, "", 0, 0},         {0xc0, 0xc0, "", 0, 0},           {0xc2, 0xc3, "", 0, 0},
        {0xe0, 0xff, "", 0, 0},         {0xca, 0xca, "", 0, 4},           {0xcb, 0xcb, "", 0, 8},
        {0xcc, 0xcc, "", 0, 1},         {0xcd, 0xcd, "", 0, 2},           {0xce, 0xce, "", 0, 4},
        {0xcf, 0xcf, "", 0, 8},         {0xd0, 0xd0, "", 0, 1},           {0xd1, 0xd1, "", 0, 2},
        {0xd2, 0xd2, "", 0, 4},         {0xd3, 0xd3, "", 0, 8},           {0xd4, 0xd4, "", 0, 2},
        {0xd5, 0xd5, "", 0, 3},         {0xd6, 0xd6, "", 0, 5},           {0xd7, 0xd7, "", 0, 9},
        {0xd8, 0xd8, "", 0, 17},        {0xc4, 0xc4, "\0", 1, 0},         {0xc4, 0xc4, "\x09", 1, 9},
        {0xc5, 0xc5, "\1\2", 2, 258},   {0xc6, 0xc6, "\0\0\1\0", 4, 256}, {0xc7, 0xc7, "\0", 1, 1},
        {0xc7, 0xc7, "\5", 1, 6},       {0xc8, 0xc8, "\1\0", 2, 257},     {0xc9, 0xc9, "\0\0\1\1", 4, 258},
        {0xd9, 0xd9, "\xff", 1, 255},   {0xda, 0xda, "\0\3", 2, 3},       {0xdb, 0xdb, "\0\0\0\2", 4, 2},
        {0xdc, 0xdc, "\0\7", 2, 7},     {0xdd, 0xdd, "\0\0\1\0", 4, 256}, {0xde, 0xde, "\0\7", 2, 14},
        {0xdf, 0xdf, "\0\0\0\3", 4, 6},
    };
    unsigned char value[512] = {0};
    for (size_t i = 0; i < COUNT(formats); i++) {
        for (unsigned first = formats[i].first; first <= formats[i].last; first++) {
            memset(value, 0, sizeof(value));
            value[0] = (unsigned char)first;
            memcpy(value + 1, formats[i].header, formats[i].header_size);
            assert_value(value, 1 + formats[i].header_size + formats[i].content, 1);
        }
    }
    memset(value, 0, sizeof(value));
    for (unsigned count = 0; count < 16; count++) {
        value[0] = (unsigned char)(0x80 | count);
        assert_value(value, 1 + 2 * count, 1);
        value[0] = (unsigned char)(0x90 | count);
        assert_value(value, 1 + count, 1);
    }
    for (unsigned length = 0; length < 32; length++) {
        value[0] = (unsigned char)(0xa0 | length);
        assert_value(value, 1 + length, 0);
    }
}

static void test_the_unused_byte(void **state)
{
    (void)state;
    assert_result(CHECK_MALFORMED, "\xc1", 1, 30);
    assert_result(CHECK_MALFORMED, "\xc1\0\0\0\0\0\0\0\0", 9, 30);
    assert_result(CHECK_MALFORMED, "\x92\x01\xc1", 3, 30);
    assert_result(CHECK_MALFORMED, "\x81\xc1\x01", 3, 30);
}

static void test_no_bytes(void **state)
{
    (void)state;
    size_t length = UNTOUCHED;
    assert_int_equal(check_value(NULL, 0, 30, &length), CHECK_MALFORMED);
    assert_int_equal(length, UNTOUCHED);
}

static void test_truncation_of_nested_values(void **state)
{
    (void)state;
    static const char rpc[] =
        "\x95\x00\x07\xa7suggest\x92\xa7recieve\x0a\x81\xa7timeout\xcb\x3f\xe0\0\0\0\0\0\0";
    static const char mixed[] = "\x84\xa1"
                                "a\x93\x01\xcc\xff\xd1\xff\x00\xa1"
                                "b\x90\xa1"
                                "c\x80\xc4\x02xy\x91\x91\x82\xc0\xc2\xc3\xc7\x03\x2axyz";
    static const char runs[] =
        "\x96\xca\0\0\0\0\xca\1\1\1\1\xce\0\0\0\1\xcb\0\0\0\0\0\0\0\1\xcf\0\0\0\0\0\0\0\1\xa4true";
    assert_value(rpc, sizeof(rpc) - 1, 30);
    assert_value(mixed, sizeof(mixed) - 1, 30);
    assert_value(runs, sizeof(runs) - 1, 30);
}

/* `levels` arrays of one element inside one another, the innermost empty. */
static size_t nest(unsigned char *out, size_t levels)
{
    memset(out, 0x91, levels - 1);
    out[levels - 1] = 0x90;
    return levels;
}

static void test_depth_limit(void **state)
{
    (void)state;
    unsigned char value[16384];
    assert_value(value, nest(value, 30), 30);
    assert_result(CHECK_TOO_DEEP, value, nest(value, 31), 30);
    assert_value(value, nest(value, 31), 31);
    assert_value(value, nest(value, 64), 64);
    assert_result(CHECK_TOO_DEEP, value, nest(value, 65), 64);
    assert_result(CHECK_TOO_DEEP, value, nest(value, 10000), 30);
    assert_result(CHECK_TOO_DEEP, value, nest(value, 10000), 1000000);
    assert_result(CHECK_OK, "\x05", 1, 0);
    assert_result(CHECK_TOO_DEEP, "\x90", 1, 0);
    assert_result(CHECK_TOO_DEEP, "\x80", 1, 0);
    assert_result(CHECK_TOO_DEEP, "\xdc\0\0", 3, 0);
    assert_result(CHECK_TOO_DEEP, "\xdf\0\0\0\0", 5, 0);
}

static void test_depth_counts_maps_and_comes_back_up(void **state)
{
    (void)state;
    assert_value("\x81\x01\x81\x02\x90", 5, 3);
    assert_result(CHECK_TOO_DEEP, "\x81\x01\x81\x02\x90", 5, 2);
    assert_value("\x81\x90\x01", 3, 2);
    assert_result(CHECK_TOO_DEEP, "\x81\x90\x01", 3, 1);
    assert_value("\x93\x91\x01\x91\x02\x91\x03", 7, 2);
    assert_value("\x93\x91\x90\x90\x91\x91\x90", 7, 4);
}

static void test_what_follows_is_left_alone(void **state)
{
    (void)state;
    size_t length;
    assert_int_equal(check_exact("\x01\x02\x03", 3, 30, &length), CHECK_OK);
    assert_int_equal(length, 1);
    assert_int_equal(check_exact("\x92\x01\x02\x03\x04", 5, 30, &length), CHECK_OK);
    assert_int_equal(length, 3);
    assert_value("\x92\x91\x01\x02", 4, 2);
    assert_result(CHECK_MALFORMED, "\x92\x92\x01\x02", 4, 2);
}

/* The claimed elements would fit in the whole value but not in what is left of it, up to 2^32-1 pairs. */
static void test_counts_beyond_the_bytes(void **state)
{
    (void)state;
    assert_result(CHECK_MALFORMED, "\xdd\xff\xff\xff\xff", 5, 30);
    assert_result(CHECK_MALFORMED, "\xdf\xff\xff\xff\xff", 5, 30);
    assert_result(CHECK_MALFORMED, "\xdf\x80\0\0\0", 5, 30); /* 2 * 2^31 is 0 in 32 bits */
    assert_result(CHECK_MALFORMED, "\xc6\xff\xff\xff\xff", 5, 30);
    assert_result(CHECK_MALFORMED, "\xdb\xff\xff\xff\xff", 5, 30);
    assert_result(CHECK_MALFORMED, "\xc9\xff\xff\xff\xff\0", 6, 30);
    assert_result(CHECK_MALFORMED, "\xde\0\2\0\0\0", 6, 30);
    assert_result(CHECK_MALFORMED, "\xdc\0\4\0\0\0", 6, 30);
    /* Known to be short before they are too deep. */
    assert_result(CHECK_MALFORMED, "\xdc\0\4\0\0\0", 6, 0);
    assert_result(CHECK_MALFORMED, "\x91\xdd\xff\xff\xff\xff", 6, 1);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed * 0x2545f4914f6cdd1d;
}

/* What is let through must be what msgpack-c reads, to the byte. */
static void assert_msgpack_agrees(const unsigned char *data, size_t size, size_t length)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)data, size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, length);
    msgpack_unpacked_destroy(&unpacked);
}

static void test_random_bytes(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252;
    unsigned char data[48];
    unsigned accepted = 0, containers = 0;
    for (unsigned round = 0; round < 200000; round++) {
        size_t size = 1 + next_random(&seed) % sizeof(data);
        for (size_t i = 0; i < size; i++) {
            uint64_t random = next_random(&seed) >> 32;
            data[i] = (unsigned char)(random & 0x100 ? random : 0x80 | (random & 0x73));
        }
        size_t length;
        enum check_result result = check_exact(data, size, 30, &length);
        if (result != CHECK_OK) {
            assert_int_equal(length, UNTOUCHED);
            continue;
        }
        assert_in_range(length, 1, size);
        assert_msgpack_agrees(data, size, length);
        assert_value(data, length, 30);
        accepted++;
        containers += length > 4 && ((data[0] & 0xe0) == 0x80 || (data[0] & 0xfc) == 0xdc);
    }
    assert_in_range(accepted, 1000, 200000);
    assert_in_range(containers, 1000, 200000);
}

/* One byte of a good message is changed: never a read beyond the end, never a length beyond it. */
static void test_mutations(void **state)
{
    (void)state;
    static const char rpc[] =
        "\x95\x00\x07\xa7suggest\x92\xa7recieve\xdc\0\2\x0a\x0b\x81\xa7timeout\xcb\x3f\xe0\0\0\0\0\0\0";
    unsigned char data[sizeof(rpc) - 1];
    for (size_t at = 0; at < sizeof(data); at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(data, rpc, sizeof(data));
            data[at] = (unsigned char)byte;
            size_t length;
            if (check_exact(data, sizeof(data), 32, &length) == CHECK_OK)
                assert_msgpack_agrees(data, sizeof(data), length);
        }
    }
}

static void test_long_arrays(void **state)
{
    (void)state;
    const size_t count = 300000;
    size_t size = 5 + 9 * count;
    unsigned char *data = malloc(size);
    assert_non_null(data);
    memcpy(data, "\xdd\x00\x04\x93\xe0", 5);
    for (size_t i = 0; i < count; i++) {
        memset(data + 5 + 9 * i, (int)i, 9);
        data[5 + 9 * i] = 0xcb;
    }
    assert_result(CHECK_OK, data, size, 1);
    assert_result(CHECK_MALFORMED, data, size - 1, 1);
    data[5 + 9 * (count - 1)] = 0xc1;
    assert_result(CHECK_MALFORMED, data, size, 1);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format_byte),
        cmocka_unit_test(test_the_unused_byte),
        cmocka_unit_test(test_no_bytes),
        cmocka_unit_test(test_truncation_of_nested_values),
        cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_depth_counts_maps_and_comes_back_up),
        cmocka_unit_test(test_what_follows_is_left_alone),
        cmocka_unit_test(test_counts_beyond_the_bytes),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_long_arrays),
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
