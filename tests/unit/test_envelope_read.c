#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <msgpack.h>

#include "check.h"
#include "envelope.h"
#include "random.h"

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define BYTES(literal) (literal), sizeof(literal) - 1

/* --- a body and what was read of it --- */

struct reading {
    unsigned char *body; /* of exactly its size, so that the sanitizer sees a step beyond */
    size_t size;
    struct envelope_request request;
    enum envelope_result result;
    const char *why;
};

static struct reading read_body(const void *body, size_t size)
{
    struct reading reading = {.body = malloc(size + (size == 0)), .size = size};
    assert_non_null(reading.body);
    memcpy(reading.body, body, size);
    memset(&reading.request, 0xee, sizeof(reading.request));
    reading.result = envelope_read_request(reading.body, size, &reading.request, &reading.why);
    if (reading.result != ENVELOPE_OK) {
        assert_non_null(reading.why);
        assert_true(strlen(reading.why) > 0);
    }
    return reading;
}

static void forget(struct reading *reading)
{
    free(reading->body);
}

static void expect(const void *body, size_t size, enum envelope_result result, bool has_msgid)
{
    struct reading reading = read_body(body, size);
    assert_int_equal(reading.result, result);
    assert_int_equal(reading.request.has_msgid, has_msgid);
    forget(&reading);
}

/* Refused, for one reason or the other. */
static void expect_refused(const void *body, size_t size)
{
    struct reading reading = read_body(body, size);
    assert_int_not_equal(reading.result, ENVELOPE_OK);
    forget(&reading);
}

/* --- bodies in pieces --- */

struct body {
    unsigned char bytes[1024];
    size_t size;
};

static void add(struct body *body, const void *bytes, size_t size)
{
    assert_true(size <= sizeof(body->bytes) - body->size);
    memcpy(body->bytes + body->size, bytes, size);
    body->size += size;
}

/* [0, 7, "ping", params, meta] with these params or this meta. */
static struct body with_params(const void *params, size_t size)
{
    struct body body = {.size = 0};
    add(&body, BYTES("\x94\x00\x07\xa4ping"));
    add(&body, params, size);
    return body;
}

static struct body with_meta(const void *meta, size_t size)
{
    struct body body = {.size = 0};
    add(&body, BYTES("\x95\x00\x07\xa4ping\x91\xc0"));
    add(&body, meta, size);
    return body;
}

/* --- good requests --- */

static void test_a_request(void **state)
{
    (void)state;
    struct reading reading = read_body(BYTES("\x94\x00\x07\xa7suggest\x92\xa7recieve\x0a"));
    assert_int_equal(reading.result, ENVELOPE_OK);
    assert_true(reading.request.has_msgid);
    assert_int_equal(reading.request.msgid, 7);
    assert_int_equal(reading.request.method_length, 7);
    assert_memory_equal(reading.request.method, "suggest", 7);
    assert_ptr_equal(reading.request.method, reading.body + 4);
    assert_ptr_equal(reading.request.params, reading.body + 11);
    assert_int_equal(reading.request.params_size, 10);
    assert_false(reading.request.has_deadline);
    assert_false(reading.request.has_timeout);
    forget(&reading);
}

static void test_a_request_with_meta(void **state)
{
    (void)state;
    struct reading reading =
        read_body(BYTES("\x95\x00\xcd\x01\x02\xa0\x90\x83\xa8"
                        "deadline\xcf\x01\x02\x03\x04\x05\x06\x07\x08\xa7timeout\xcb\x3f\xe0\0\0\0\0\0\0"
                        "\xabtraceparent\xa2zz"));
    assert_int_equal(reading.result, ENVELOPE_OK);
    assert_int_equal(reading.request.msgid, 0x102);
    assert_int_equal(reading.request.method_length, 0);
    assert_int_equal(reading.request.params_size, 1);
    assert_true(reading.request.has_deadline);
    assert_int_equal(reading.request.deadline, UINT64_C(0x0102030405060708));
    assert_true(reading.request.has_timeout);
    assert_true(reading.request.timeout == 0.5);
    forget(&reading);
}

static void test_every_form_of_the_headers(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } outer[] = {{BYTES("\x94")}, {BYTES("\xdc\0\4")}, {BYTES("\xdd\0\0\0\4")}},
      type[] = {{BYTES("\0")},           {BYTES("\xcc\0")}, {BYTES("\xcd\0\0")},
                {BYTES("\xce\0\0\0\0")}, {BYTES("\xd0\0")}, {BYTES("\xd1\0\0")}},
      method[] = {{BYTES("\xa2me")}, {BYTES("\xd9\2me")}, {BYTES("\xda\0\2me")}, {BYTES("\xdb\0\0\0\2me")}},
      params[] = {{BYTES("\x91\5")}, {BYTES("\xdc\0\1\5")}, {BYTES("\xdd\0\0\0\1\5")}};
    for (unsigned i = 0; i < 3 * 6 * 4 * 3; i++) {
        struct body body = {.size = 0};
        unsigned o = i % 3, t = i / 3 % 6, m = i / 18 % 4, p = i / 72;
        add(&body, outer[o].bytes, outer[o].size);
        add(&body, type[t].bytes, type[t].size);
        add(&body, "\x07", 1);
        add(&body, method[m].bytes, method[m].size);
        add(&body, params[p].bytes, params[p].size);
        struct reading reading = read_body(body.bytes, body.size);
        assert_int_equal(reading.result, ENVELOPE_OK);
        assert_int_equal(reading.request.method_length, 2);
        assert_memory_equal(reading.request.method, "me", 2);
        assert_int_equal(reading.request.params_size, params[p].size);
        assert_memory_equal(reading.request.params, params[p].bytes, params[p].size);
        forget(&reading);
    }
}

static void test_msgids(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        int64_t msgid; /* -1: refused */
    } cases[] = {
        {BYTES("\0"), 0},
        {BYTES("\x7f"), 127},
        {BYTES("\xcc\0"), 0},
        {BYTES("\xcc\xff"), 255},
        {BYTES("\xcd\0\5"), 5},
        {BYTES("\xcd\xff\xff"), 65535},
        {BYTES("\xce\0\0\0\1"), 1},
        {BYTES("\xce\xff\xff\xff\xff"), UINT32_MAX},
        {BYTES("\xcf\0\0\0\0\0\0\0\0"), 0},
        {BYTES("\xcf\0\0\0\0\xff\xff\xff\xff"), UINT32_MAX},
        {BYTES("\xcf\0\0\0\1\0\0\0\0"), -1},
        {BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), -1},
        {BYTES("\xff"), -1},
        {BYTES("\xe0"), -1},
        {BYTES("\xd0\0"), 0},
        {BYTES("\xd0\x7f"), 127},
        {BYTES("\xd1\x7f\xff"), 32767},
        {BYTES("\xd2\0\0\0\7"), 7},
        {BYTES("\xd2\x7f\xff\xff\xff"), INT32_MAX},
        {BYTES("\xd3\0\0\0\0\0\0\0\0"), 0},
        {BYTES("\xd3\0\0\0\0\x80\0\0\0"), UINT32_C(0x80000000)},
        {BYTES("\xd3\0\0\0\0\xff\xff\xff\xff"), UINT32_MAX},
        {BYTES("\xd3\0\0\0\1\0\0\0\0"), -1},
        {BYTES("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), -1},
        {BYTES("\xd0\xff"), -1},
        {BYTES("\xd0\x80"), -1},
        {BYTES("\xd1\xff\xff"), -1},
        {BYTES("\xd1\x80\0"), -1},
        {BYTES("\xd2\xff\xff\xff\xff"), -1},
        {BYTES("\xd2\x80\0\0\0"), -1},
        {BYTES("\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), -1},
        {BYTES("\xd3\x80\0\0\0\0\0\0\7"), -1},
        {BYTES("\xca\x3f\x80\0\0"), -1},
        {BYTES("\xcb\x3f\xf0\0\0\0\0\0\0"), -1},
        {BYTES("\xc0"), -1},
        {BYTES("\xc2"), -1},
        {BYTES("\xa1"
               "7"),
         -1},
        {BYTES("\x91\7"), -1},
        {BYTES("\xc1"), -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct body body = {.size = 0};
        uint32_t msgid = 99;
        add(&body, "\x94\0", 2);
        add(&body, cases[i].bytes, cases[i].size);
        add(&body, BYTES("\xa4ping\x90"));
        struct reading reading = read_body(body.bytes, body.size);
        bool good = cases[i].msgid >= 0;
        assert_int_equal(reading.result, good ? ENVELOPE_OK : ENVELOPE_BAD_REQUEST);
        assert_int_equal(reading.request.has_msgid, good);
        assert_int_equal(envelope_read_msgid(body.bytes, body.size, &msgid), good);
        assert_int_equal(msgid, good ? (uint32_t)cases[i].msgid : 99);
        if (good)
            assert_int_equal(reading.request.msgid, cases[i].msgid);
        forget(&reading);
    }
}

/* --- bodies that are not one request --- */

static void test_truncated_and_trailing(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        size_t msgid_end;
    } requests[] = {
        {BYTES("\x94\x00\x07\xa4ping\x90"), 3},
        {BYTES("\x94\x00\xce\0\0\0\7\xd9\4ping\xdc\0\1\xcd\1\2"), 7},
        {BYTES("\xdd\0\0\0\4\xcf\0\0\0\0\0\0\0\0\xcf\0\0\0\0\0\0\0\7\xdb\0\0\0\4ping\xdd\0\0\0\1\xc4\2ab"),
         23},
        {BYTES("\x94\xd0\0\xd3\0\0\0\0\0\0\0\7\xa4ping\x90"), 12},
        {BYTES("\x95\x00\x07\xa4ping\x93\1\xa1x\xcb\0\0\0\0\0\0\0\0\x80"), 3},
        {BYTES("\x95\x00\x07\xa4ping\x91\x81\1\2\x84\xa7timeout\xca\0\0\0\0\xa7unknown\x93\1\2\3\x91\1\5\xa8"
               "deadline\xcd\1\2"),
         3},
    };
    for (size_t i = 0; i < COUNT(requests); i++) {
        struct body body = {.size = 0};
        expect(requests[i].bytes, requests[i].size, ENVELOPE_OK, true);
        for (size_t size = 0; size < requests[i].size; size++) {
            uint32_t msgid = 0;
            struct reading reading = read_body(requests[i].bytes, size);
            assert_int_not_equal(reading.result, ENVELOPE_OK);
            assert_int_equal(reading.request.has_msgid, size >= requests[i].msgid_end);
            assert_int_equal(envelope_read_msgid(reading.body, size, &msgid), reading.request.has_msgid);
            assert_int_equal(msgid, size >= requests[i].msgid_end ? 7 : 0);
            forget(&reading);
        }
        add(&body, requests[i].bytes, requests[i].size);
        add(&body, "\xc0", 1);
        expect(body.bytes, body.size, ENVELOPE_BAD_FRAME, true);
        body.bytes[body.size - 1] = 0xc1;
        expect(body.bytes, body.size, ENVELOPE_BAD_FRAME, true);
    }
}

static void test_the_outer_array(void **state)
{
    (void)state;
    expect(BYTES(""), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x90"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x93\0\7\xa4ping"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x96\0\7\xa4ping\x90\x80\xc0"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x84\0\7\xa4ping\x90\0\0\0\0"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\xa4\0\7\xa4p"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x07"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\xc1"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\xdc\xff\xff\0\7\xa4ping\x90"), ENVELOPE_BAD_REQUEST, false);
    expect(BYTES("\x94\0\7\xa4ping\x90\x80"), ENVELOPE_BAD_FRAME, true);
    expect_refused(BYTES("\x95\0\7\xa4ping\x90"));
}

/* A value of each type in the place of each element. */
static void test_wrong_types_at_every_position(void **state)
{
    (void)state;
    enum { TYPE = 1, MSGID = 2, METHOD = 4, PARAMS = 8, META = 16 };
    static const struct {
        const char *bytes;
        size_t size;
        unsigned fits;
    } values[] = {
        {BYTES("\0"), TYPE | MSGID}, {BYTES("\1"), MSGID},
        {BYTES("\2"), MSGID},        {BYTES("\xcd\1\0"), MSGID},
        {BYTES("\xff"), 0},          {BYTES("\xc0"), 0},
        {BYTES("\xc2"), 0},          {BYTES("\xc3"), 0},
        {BYTES("\xca\0\0\0\0"), 0},  {BYTES("\xcb\0\0\0\0\0\0\0\0"), 0},
        {BYTES("\xa1x"), METHOD},    {BYTES("\xd9\1x"), METHOD},
        {BYTES("\xc4\1x"), 0},       {BYTES("\x90"), PARAMS},
        {BYTES("\xdc\0\0"), PARAMS}, {BYTES("\x80"), META},
        {BYTES("\xde\0\0"), META},   {BYTES("\xd4\1\2"), 0},
        {BYTES("\xc7\0\1"), 0},
    };
    static const struct {
        const char *bytes;
        size_t size;
    } good[] = {{BYTES("\0")}, {BYTES("\7")}, {BYTES("\xa4ping")}, {BYTES("\x91\1")}, {BYTES("\x80")}};
    for (size_t position = 0; position < COUNT(good); position++) {
        for (size_t i = 0; i < COUNT(values); i++) {
            struct body body = {.size = 0};
            add(&body, "\x95", 1);
            for (size_t at = 0; at < COUNT(good); at++)
                if (at == position)
                    add(&body, values[i].bytes, values[i].size);
                else
                    add(&body, good[at].bytes, good[at].size);
            bool fits = values[i].fits >> position & 1;
            expect(body.bytes, body.size, fits ? ENVELOPE_OK : ENVELOPE_BAD_REQUEST, fits || position >= 2);
        }
    }
}

static void test_malformed_params(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } params[] = {{BYTES("\x91\xc1")},
                  {BYTES("\x92\1")},
                  {BYTES("\xdd\xff\xff\xff\xff")},
                  {BYTES("\xdd\xff\xff\xff\xff\0\0\0\0\0\0\0\0")},
                  {BYTES("\x91\xdf\xff\xff\xff\xff")},
                  {BYTES("\x91\xdf\x80\0\0\0")},
                  {BYTES("\x91\xdb\xff\xff\xff\xff")},
                  {BYTES("\x91\xc9\xff\xff\xff\xff\1")}};
    for (size_t i = 0; i < COUNT(params); i++) {
        struct body body = with_params(params[i].bytes, params[i].size);
        expect(body.bytes, body.size, ENVELOPE_BAD_FRAME, true);
    }
    expect_refused(BYTES("\x94\0\7\xdb\xff\xff\xff\xffping\x90"));
    expect_refused(BYTES("\xdd\xff\xff\xff\xff\0\7\xa4ping\x90"));
}

/* --- depth --- */

/* `levels` containers inside one another, arrays and maps by turns, around one number. */
static size_t nest(unsigned char *out, unsigned levels)
{
    size_t size = 0;
    for (unsigned i = 0; i < levels; i++) {
        if (i % 2) {
            out[size++] = 0x81;
            out[size++] = 0x01;
        } else {
            out[size++] = 0x91;
        }
    }
    out[size++] = 0x2a;
    return size;
}

static void expect_depth(struct body body, unsigned levels, const char *after)
{
    unsigned char nested[256];
    add(&body, nested, nest(nested, levels));
    add(&body, after, strlen(after));
    expect(body.bytes, body.size, levels <= 30 ? ENVELOPE_OK : ENVELOPE_TOO_DEEP, true);
}

static void test_thirty_containers_inside_one_another(void **state)
{
    (void)state;
    assert_int_equal(CHECK_MAX_DEPTH, 30);
    for (unsigned levels = 0; levels < 70; levels++) {
        expect_depth(with_params(BYTES("\x91")), levels, "");
        expect_depth(with_params(BYTES("\x92\xa1x")), levels, "");
        expect_depth(with_meta(BYTES("\x81\xa1x")), levels, "");
        expect_depth(with_meta(BYTES("\x82\xa1x\x01\x02")), levels, "");
        expect_depth(with_meta(BYTES("\x81")), levels, "\x01");
    }
}

/* What is let through is then built by msgpack-c's parser. */
static void test_the_deepest_params_can_be_unpacked(void **state)
{
    (void)state;
    struct body body = with_params(BYTES("\x91"));
    unsigned char nested[256];
    add(&body, nested, nest(nested, 30));
    struct reading reading = read_body(body.bytes, body.size);
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)reading.request.params,
                                         reading.request.params_size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    msgpack_unpacked_destroy(&unpacked);
    forget(&reading);
}

/* --- whatever comes --- */

static bool is_str(const msgpack_object *object, const void *bytes, size_t size)
{
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == size &&
           memcmp(object->via.str.ptr, bytes, size) == 0;
}

/* msgpack-c sees the same request in the body. */
static void assert_is_request(const struct reading *reading)
{
    const struct envelope_request *request = &reading->request;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)reading->body, reading->size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, reading->size);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_ARRAY);
    const msgpack_object *parts = unpacked.data.via.array.ptr;
    assert_in_range(unpacked.data.via.array.size, 4, 5);
    assert_true(parts[0].type == MSGPACK_OBJECT_POSITIVE_INTEGER && parts[0].via.u64 == 0);
    assert_true(parts[1].type == MSGPACK_OBJECT_POSITIVE_INTEGER && parts[1].via.u64 == request->msgid);
    assert_true(is_str(&parts[2], request->method, request->method_length));
    assert_int_equal(parts[3].type, MSGPACK_OBJECT_ARRAY);
    assert_in_range(request->params - reading->body, 1, reading->size - request->params_size);
    if (unpacked.data.via.array.size == 5)
        assert_int_equal(parts[4].type, MSGPACK_OBJECT_MAP);
    msgpack_unpacked_destroy(&unpacked);
}

static unsigned check_any(const void *body, size_t size)
{
    uint32_t msgid = 0;
    struct reading reading = read_body(body, size);
    assert_int_equal(envelope_read_msgid(reading.body, size, &msgid), reading.request.has_msgid);
    if (reading.request.has_msgid)
        assert_int_equal(msgid, reading.request.msgid);
    bool accepted = reading.result == ENVELOPE_OK;
    if (accepted)
        assert_is_request(&reading);
    forget(&reading);
    return accepted;
}

static const char sample[] = "\x95\x00\x07\xa4ping\x93\x0a\xa2xy\x81\x01\xc3\x83\xa8"
                             "deadline\xcd\x01\x02\xa7timeout\xcb\x3f\xe0\0\0\0\0\0\0\x05\x91\xc0";

static void test_mutations(void **state)
{
    (void)state;
    unsigned char body[sizeof(sample) - 1];
    unsigned accepted = 0;
    for (size_t at = 0; at < sizeof(body); at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(body, sample, sizeof(body));
            body[at] = (unsigned char)byte;
            accepted += check_any(body, sizeof(body));
        }
    }
    assert_in_range(accepted, 1000, 256 * sizeof(body) - 1000);
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct random random = {51};
    unsigned char body[48];
    unsigned accepted = 0;
    for (unsigned round = 0; round < 200000; round++) {
        size_t size = random_below(&random, sizeof(body) + 1);
        random_fill(&random, body, sizeof(body));
        if (round % 2)
            memcpy(body, "\x94\x00\x07\xa1x\x92", 6);
        accepted += check_any(body, size);
    }
    assert_in_range(accepted, 500, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request),
        cmocka_unit_test(test_a_request_with_meta),
        cmocka_unit_test(test_every_form_of_the_headers),
        cmocka_unit_test(test_msgids),
        cmocka_unit_test(test_truncated_and_trailing),
        cmocka_unit_test(test_the_outer_array),
        cmocka_unit_test(test_wrong_types_at_every_position),
        cmocka_unit_test(test_malformed_params),
        cmocka_unit_test(test_thirty_containers_inside_one_another),
        cmocka_unit_test(test_the_deepest_params_can_be_unpacked),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests_name("envelope_read", tests, NULL, NULL);
}
