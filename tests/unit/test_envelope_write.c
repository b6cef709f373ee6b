#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <msgpack.h>

#include "envelope.h"
#include "random.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- an error frame, decoded again --- */

struct decoded {
    unsigned char *frame;
    msgpack_unpacked unpacked;
    const msgpack_object *parts; /* type, msgid, error, result */
};

static const struct envelope_error plain = {.code = "INTERNAL", .reason = "ENGINE_ERROR", .message = "no"};

static void decode(struct decoded *decoded, const unsigned char *frame, size_t size)
{
    size_t offset = 0, body = size - FRAME_HEADER_SIZE;
    assert_int_equal(frame_get_length(frame), body);
    msgpack_unpacked_init(&decoded->unpacked);
    assert_int_equal(
        msgpack_unpack_next(&decoded->unpacked, (const char *)frame + FRAME_HEADER_SIZE, body, &offset),
        MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, body);
    assert_int_equal(decoded->unpacked.data.type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(decoded->unpacked.data.via.array.size, 4);
    decoded->parts = decoded->unpacked.data.via.array.ptr;
    assert_int_equal(decoded->parts[0].type, MSGPACK_OBJECT_POSITIVE_INTEGER);
    assert_int_equal(decoded->parts[0].via.u64, 1);
    assert_int_equal(decoded->parts[2].type, MSGPACK_OBJECT_MAP);
    assert_int_equal(decoded->parts[3].type, MSGPACK_OBJECT_NIL);
}

/* In a block of exactly ENVELOPE_ERROR_MAX bytes, so that the sanitizer sees a step beyond. */
static void write_and_decode(struct decoded *decoded, bool has_msgid, uint32_t msgid,
                             const struct envelope_error *error)
{
    unsigned char *frame = malloc(ENVELOPE_ERROR_MAX);
    assert_non_null(frame);
    size_t size = envelope_write_error(frame, has_msgid, msgid, error);
    assert_in_range(size, FRAME_HEADER_SIZE + 1, ENVELOPE_ERROR_MAX);
    decode(decoded, frame, size);
    decoded->frame = frame;
}

static void forget(struct decoded *decoded)
{
    msgpack_unpacked_destroy(&decoded->unpacked);
    free(decoded->frame);
}

static bool is_str(const msgpack_object *object, const char *wanted)
{
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(wanted) &&
           memcmp(object->via.str.ptr, wanted, strlen(wanted)) == 0;
}

/* The value of a key that must be there once. */
static const msgpack_object *value_of(const msgpack_object *map, const char *key)
{
    const msgpack_object *found = NULL;
    assert_int_equal(map->type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (!is_str(&map->via.map.ptr[i].key, key))
            continue;
        assert_null(found);
        found = &map->via.map.ptr[i].val;
    }
    assert_non_null(found);
    return found;
}

static void assert_str(const msgpack_object *map, const char *key, const char *expected)
{
    assert_true(is_str(value_of(map, key), expected));
}

static void assert_flag(const msgpack_object *map, const char *key, bool expected)
{
    assert_int_equal(value_of(map, key)->type, MSGPACK_OBJECT_BOOLEAN);
    assert_int_equal(value_of(map, key)->via.boolean, expected);
}

/* --- fields --- */

static void test_every_field(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct envelope_error error = {.code = "UNAVAILABLE",
                                       .reason = "WORKER_LOST",
                                       .message = "the worker died",
                                       .executed = i & 1,
                                       .retry = i & 2,
                                       .signal = i & 4 ? "SIGSEGV" : NULL};
        struct decoded decoded;
        write_and_decode(&decoded, true, 99, &error);
        const msgpack_object *map = &decoded.parts[2];
        assert_int_equal(map->via.map.size, 6);
        assert_str(map, "code", "UNAVAILABLE");
        assert_str(map, "reason", "WORKER_LOST");
        assert_str(map, "message", "the worker died");
        assert_flag(map, "executed", i & 1);
        assert_flag(map, "retry", i & 2);
        const msgpack_object *details = value_of(map, "details");
        assert_int_equal(details->type, MSGPACK_OBJECT_MAP);
        assert_int_equal(details->via.map.size, i & 4 ? 1 : 0);
        if (i & 4)
            assert_str(details, "signal", "SIGSEGV");
        forget(&decoded);
    }
}

static void test_msgids(void **state)
{
    (void)state;
    static const uint32_t msgids[] = {0, 1, 127, 128, 255, 256, 65535, 65536, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT(msgids); i++) {
        struct decoded decoded;
        write_and_decode(&decoded, true, msgids[i], &plain);
        assert_int_equal(decoded.parts[1].type, MSGPACK_OBJECT_POSITIVE_INTEGER);
        assert_int_equal(decoded.parts[1].via.u64, msgids[i]);
        forget(&decoded);
        write_and_decode(&decoded, false, msgids[i], &plain);
        assert_int_equal(decoded.parts[1].type, MSGPACK_OBJECT_NIL);
        forget(&decoded);
    }
}

/* --- messages --- */

static void expect_message(const char *message, const void *expected, size_t size)
{
    struct envelope_error error = plain;
    struct decoded decoded;
    error.message = message;
    write_and_decode(&decoded, true, 1, &error);
    const msgpack_object *value = value_of(&decoded.parts[2], "message");
    assert_int_equal(value->type, MSGPACK_OBJECT_STR);
    assert_int_equal(value->via.str.size, size);
    assert_memory_equal(value->via.str.ptr, expected, size);
    forget(&decoded);
}

static void test_messages_that_are_utf8(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "",
        "no",
        "\x7f\x01\n",
        "Stra\xc3\x9f"
        "e",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "a\xe2\x82\xac"
        "b\xf0\x9f\x98\x80"
        "c",
    };
    for (size_t i = 0; i < COUNT(messages); i++)
        expect_message(messages[i], messages[i], strlen(messages[i]));
}

/* Each byte that belongs to no character becomes one '?'; what stands around it stays. */
static void test_messages_that_are_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *expected;
    } cases[] = {
        {"\x80", "?"}, /* a continuation byte alone */
        {"\xbf\xbf", "??"},
        {"\xc0\x80", "??"}, /* overlong */
        {"\xc1\xbf", "??"},
        {"\xe0\x80\x80", "???"},
        {"\xe0\x9f\xbf", "???"},
        {"\xf0\x80\x80\x80", "????"},
        {"\xf0\x8f\xbf\xbf", "????"},
        {"\xed\xa0\x80", "???"}, /* surrogates */
        {"\xed\xbf\xbf", "???"},
        {"\xf4\x90\x80\x80", "????"}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", "????"},
        {"\xf8\x88\x80\x80\x80", "?????"},
        {"\xfe", "?"},
        {"\xff", "?"},
        {"\xc3", "?"}, /* cut short */
        {"\xe2\x82", "??"},
        {"\xf0\x9f\x98", "???"},
        {"\xe2\x28\xa1", "?(?"},
        {"\xf0\x9f\xc3\x9f", "??\xc3\x9f"},
        {"\xc3\xc3\x9f", "?\xc3\x9f"},
        {"\xe2\x82\xe2\x82\xac", "??\xe2\x82\xac"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char message[32], expected[32];
        expect_message(cases[i].bytes, cases[i].expected, strlen(cases[i].expected));
        strcat(strcat(strcpy(message, "x"), cases[i].bytes), "yz");
        strcat(strcat(strcpy(expected, "x"), cases[i].expected), "yz");
        expect_message(message, expected, strlen(expected));
    }
}

/* UTF-8 as the standard tables it: no arithmetic. Returns the bytes of the character at text, 0 for none. */
static size_t table_length(const unsigned char *text, size_t size)
{
    static const struct {
        unsigned char first[2], second[2], length;
    } rows[] = {
        {{0x00, 0x7f}, {0x00, 0xff}, 1}, {{0xc2, 0xdf}, {0x80, 0xbf}, 2}, {{0xe0, 0xe0}, {0xa0, 0xbf}, 3},
        {{0xe1, 0xec}, {0x80, 0xbf}, 3}, {{0xed, 0xed}, {0x80, 0x9f}, 3}, {{0xee, 0xef}, {0x80, 0xbf}, 3},
        {{0xf0, 0xf0}, {0x90, 0xbf}, 4}, {{0xf1, 0xf3}, {0x80, 0xbf}, 4}, {{0xf4, 0xf4}, {0x80, 0x8f}, 4},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (text[0] < rows[i].first[0] || text[0] > rows[i].first[1])
            continue;
        if (rows[i].length == 1)
            return 1;
        if (size < rows[i].length || text[1] < rows[i].second[0] || text[1] > rows[i].second[1])
            return 0;
        for (size_t at = 2; at < rows[i].length; at++)
            if (text[at] < 0x80 || text[at] > 0xbf)
                return 0;
        return rows[i].length;
    }
    return 0;
}

/* What a message comes out as. Returns its size. */
static size_t clean(const char *message, char *out)
{
    const unsigned char *text = (const unsigned char *)message;
    size_t size = strlen(message), used = 0;
    for (size_t at = 0; at < size;) {
        size_t length = table_length(text + at, size - at), taken = length ? length : 1;
        if (used + taken > ENVELOPE_MESSAGE_MAX)
            break;
        memcpy(out + used, length ? message + at : "?", taken);
        used += taken;
        at += taken;
    }
    return used;
}

static void test_random_messages(void **state)
{
    (void)state;
    static const char pieces[] = "aZ\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0"
                                 "\xf1\xf3\xf4\xf5\xff";
    struct random random = {61};
    char message[3000], expected[ENVELOPE_MESSAGE_MAX];
    for (unsigned round = 0; round < 3000; round++) {
        size_t size = random_below(&random, round % 50 ? 24 : sizeof(message));
        for (size_t i = 0; i < size; i++)
            message[i] = pieces[random_below(&random, sizeof(pieces) - 1)];
        message[size] = '\0';
        expect_message(message, expected, clean(message, expected));
    }
}

/* Every first and second byte, in front of good continuation bytes. */
static void test_every_beginning(void **state)
{
    (void)state;
    char expected[16];
    for (unsigned first = 1; first < 256; first++) {
        for (unsigned second = 1; second < 256; second++) {
            char message[] = {(char)first, (char)second, '\x80', '\xbf', 'z', '\0'};
            expect_message(message, expected, clean(message, expected));
        }
    }
}

/* --- long messages --- */

static void test_long_messages_are_cut(void **state)
{
    (void)state;
    char message[5000];
    for (size_t size = ENVELOPE_MESSAGE_MAX - 2; size < ENVELOPE_MESSAGE_MAX + 3; size++) {
        memset(message, 'm', size);
        message[size] = '\0';
        expect_message(message, message, size < ENVELOPE_MESSAGE_MAX ? size : ENVELOPE_MESSAGE_MAX);
    }
    memset(message, 'm', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    expect_message(message, message, ENVELOPE_MESSAGE_MAX);
}

static void test_no_character_is_split(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < COUNT(characters); i++) {
        size_t length = strlen(characters[i]);
        for (size_t before = ENVELOPE_MESSAGE_MAX - 6; before <= ENVELOPE_MESSAGE_MAX; before++) {
            char message[ENVELOPE_MESSAGE_MAX + 16];
            memset(message, 'm', before);
            strcpy(message + before, characters[i]);
            bool fits = before + length <= ENVELOPE_MESSAGE_MAX;
            expect_message(message, message, fits ? before + length : before);
        }
    }
}

static void test_the_largest_frame_fits(void **state)
{
    (void)state;
    char message[5000], reason[64];
    memset(message, '\xff', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    memset(reason, 'R', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    struct envelope_error error = {.code = "FAILED_PRECONDITION",
                                   .reason = reason,
                                   .message = message,
                                   .executed = true,
                                   .retry = true,
                                   .signal = "SIGRTMIN+30"};
    struct decoded decoded;
    write_and_decode(&decoded, true, UINT32_MAX, &error);
    assert_int_equal(value_of(&decoded.parts[2], "message")->via.str.size, ENVELOPE_MESSAGE_MAX);
    assert_str(&decoded.parts[2], "reason", reason);
    assert_str(value_of(&decoded.parts[2], "details"), "signal", "SIGRTMIN+30");
    forget(&decoded);
}

/* --- results --- */

static void test_the_result_header(void **state)
{
    (void)state;
    unsigned char header[ENVELOPE_RESULT_HEADER + 2];
    memset(header, 0xee, sizeof(header));
    envelope_write_result_header(header, 0x01020304, 3);
    assert_memory_equal(header, "\0\0\0\x0b\x94\x01\xce\x01\x02\x03\x04\xc0\xee\xee", sizeof(header));
    envelope_write_result_header(header, UINT32_MAX, 0x7ffffff7);
    assert_memory_equal(header, "\x7f\xff\xff\xff\x94\x01\xce\xff\xff\xff\xff\xc0\xee\xee", sizeof(header));
    envelope_write_result_header(header, 0, 65536);
    assert_memory_equal(header, "\0\1\0\x08\x94\x01\xce\0\0\0\0\xc0\xee\xee", sizeof(header));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_msgids),
        cmocka_unit_test(test_messages_that_are_utf8),
        cmocka_unit_test(test_messages_that_are_not_utf8),
        cmocka_unit_test(test_random_messages),
        cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_no_character_is_split),
        cmocka_unit_test(test_the_largest_frame_fits),
        cmocka_unit_test(test_the_result_header),
    };
    return cmocka_run_group_tests_name("envelope_write", tests, NULL, NULL);
}
