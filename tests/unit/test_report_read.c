#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"
#include "pack.h"
#include "report_read.h"

static msgpack_sbuffer buffer;
static msgpack_packer packer;

static int set_up(void **state)
{
    (void)state;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    msgpack_sbuffer_destroy(&buffer);
    return 0;
}

static void pack_int(const char *key, int value)
{
    pack_text(&packer, key);
    msgpack_pack_int(&packer, value);
}

/* version, and a request with this frame. */
static void pack_report(int version, const void *frame, size_t size)
{
    msgpack_pack_map(&packer, 3);
    pack_int("version", version);
    pack_text(&packer, "request");
    msgpack_pack_map(&packer, 2);
    pack_int("size", (int)size);
    pack_text(&packer, "frame");
    msgpack_pack_bin_with_body(&packer, frame, size);
    pack_int("time", 7);
}

static enum report_result open_bytes(struct report *report, size_t size)
{
    /* On the heap, so that a look beyond the end is seen by a sanitizer. */
    static unsigned char *bytes;
    free(bytes);
    bytes = malloc(size ? size : 1);
    memcpy(bytes, buffer.data, size);
    return report_open(report, bytes, size);
}

static void expect(enum report_result wanted)
{
    struct report report;
    assert_int_equal(open_bytes(&report, buffer.size), wanted);
    if (wanted == REPORT_OK)
        report_close(&report);
    else
        assert_true(strlen(report_explain(wanted)) > 0);
}

static void test_frame(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 255, 256, 65535, 65536, 1 << 20};
    unsigned char *frame = calloc(1, 1 << 20);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct report report;
        msgpack_sbuffer_clear(&buffer);
        pack_report(1, frame, sizes[i]);
        assert_int_equal(open_bytes(&report, buffer.size), REPORT_OK);
        assert_int_equal(report.frame_size, sizes[i]);
        assert_non_null(report.frame);
        assert_int_equal(report.root.via.map.size, 3);
        report_close(&report);
    }
    free(frame);
}

static void test_without_frame(void **state)
{
    (void)state;
    struct report report;
    const char *why = NULL;
    struct envelope_request request;
    msgpack_pack_map(&packer, 2);
    pack_int("version", 1);
    pack_text(&packer, "request");
    msgpack_pack_nil(&packer);
    assert_int_equal(open_bytes(&report, buffer.size), REPORT_OK);
    assert_null(report.frame);
    assert_false(report.has_request);
    assert_false(report_read_request(&report, &request, &why));
    assert_non_null(why);
    report_close(&report);
}

static void test_request_that_was_left_out(void **state)
{
    (void)state;
    struct report report;
    const char *why = "";
    struct envelope_request request;
    msgpack_pack_map(&packer, 2);
    pack_int("version", 1);
    pack_text(&packer, "request");
    msgpack_pack_map(&packer, 1);
    pack_text(&packer, "frame");
    msgpack_pack_nil(&packer);
    assert_int_equal(open_bytes(&report, buffer.size), REPORT_OK);
    assert_true(report.has_request);
    assert_false(report_read_request(&report, &request, &why));
    assert_non_null(strstr(why, "--crash-params"));
    report_close(&report);
}

static void test_request(void **state)
{
    (void)state;
    static const unsigned char frame[] = {0, 0, 0, 6, 0x94, 0, 7, 0xa1, 'f', 0x90};
    struct report report;
    struct envelope_request request;
    const char *why;
    pack_report(1, frame, sizeof(frame));
    assert_int_equal(open_bytes(&report, buffer.size), REPORT_OK);
    assert_true(report_read_request(&report, &request, &why));
    assert_int_equal(request.method_length, 1);
    assert_int_equal(request.msgid, 7);
    report_close(&report);
}

static void test_request_that_is_not_whole(void **state)
{
    (void)state;
    static const unsigned char frame[] = {0, 0, 0, 7, 0x94, 0, 7, 0xa1, 'f', 0x90};
    struct report report;
    struct envelope_request request;
    const char *why;
    for (size_t size = 0; size <= sizeof(frame); size++) {
        msgpack_sbuffer_clear(&buffer);
        pack_report(1, frame, size);
        assert_int_equal(open_bytes(&report, buffer.size), REPORT_OK);
        assert_false(report_read_request(&report, &request, &why));
        report_close(&report);
    }
}

static void test_every_cut(void **state)
{
    (void)state;
    struct report report;
    pack_report(1, "0123456789", 10);
    for (size_t size = 0; size < buffer.size; size++)
        assert_int_equal(open_bytes(&report, size), REPORT_FOREIGN);
    msgpack_pack_nil(&packer); /* and a byte too many */
    expect(REPORT_FOREIGN);
}

/* Whatever one byte of it is, it is a report or none. */
static void test_every_byte(void **state)
{
    (void)state;
    pack_report(1, "0123456789", 10);
    for (size_t at = 0; at < buffer.size; at++) {
        char byte = buffer.data[at];
        for (int value = 0; value < 256; value++) {
            struct report report;
            struct envelope_request request;
            const char *why;
            buffer.data[at] = (char)value;
            if (open_bytes(&report, buffer.size) != REPORT_OK)
                continue;
            report_read_request(&report, &request, &why);
            report_close(&report);
        }
        buffer.data[at] = byte;
    }
}

static void test_foreign(void **state)
{
    (void)state;
    msgpack_pack_array(&packer, 0);
    expect(REPORT_FOREIGN);
    msgpack_sbuffer_clear(&buffer);
    msgpack_pack_map(&packer, 0);
    expect(REPORT_FOREIGN);
    msgpack_sbuffer_clear(&buffer);
    msgpack_pack_map(&packer, 1);
    pack_text(&packer, "version");
    msgpack_pack_true(&packer);
    expect(REPORT_FOREIGN);
    msgpack_sbuffer_clear(&buffer);
    pack_report(0, "", 0);
    expect(REPORT_FOREIGN);
    msgpack_sbuffer_clear(&buffer);
    pack_report(2, "", 0);
    expect(REPORT_NEWER);
}

static void test_claims(void **state)
{
    (void)state;
    static const unsigned char map[] = {0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0};
    msgpack_sbuffer_write(&buffer, (const char *)map, sizeof(map));
    expect(REPORT_FOREIGN);
}

static void test_too_deep(void **state)
{
    (void)state;
    msgpack_pack_map(&packer, 2);
    pack_int("version", 1);
    pack_text(&packer, "stack");
    for (int i = 0; i < 40; i++)
        msgpack_pack_array(&packer, 1);
    msgpack_pack_nil(&packer);
    expect(REPORT_FOREIGN);
}

/* A tree takes many times the bytes that it is built from. */
static void test_too_large(void **state)
{
    (void)state;
    msgpack_pack_map(&packer, 2);
    pack_int("version", 1);
    pack_text(&packer, "stack");
    msgpack_pack_array(&packer, REPORT_REST_MAX);
    for (unsigned i = 0; i < REPORT_REST_MAX; i++)
        msgpack_pack_nil(&packer);
    expect(REPORT_TOO_LARGE);
}

static void test_ids(void **state)
{
    (void)state;
    assert_true(report_id_is_valid("20261122-101502-3"));
    assert_false(report_id_is_valid(""));
    assert_false(report_id_is_valid("-1"));
    assert_false(report_id_is_valid("../20261122"));
    assert_false(report_id_is_valid("20261122-101502-3/"));
    assert_false(report_id_is_valid("2026112a"));
    char id[REPORT_ID_SIZE + 1];
    memset(id, '1', REPORT_ID_SIZE);
    id[REPORT_ID_SIZE] = '\0';
    assert_false(report_id_is_valid(id));
    assert_true(report_id_is_valid(id + 1));
}

static void test_order_of_ids(void **state)
{
    (void)state;
    static const char *const ids[] = {"20251231-235959-9", "20261122-101502-2", "20261122-101502-9",
                                      "20261122-101502-10", "20261122-101503-1"};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++) {
            int order = report_id_compare(ids[i], ids[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_frame),
        TEST(test_without_frame),
        TEST(test_request_that_was_left_out),
        TEST(test_request),
        TEST(test_request_that_is_not_whole),
        TEST(test_every_cut),
        TEST(test_every_byte),
        TEST(test_foreign),
        TEST(test_claims),
        TEST(test_too_deep),
        TEST(test_too_large),
        TEST(test_ids),
        TEST(test_order_of_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
