#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "response.h"

#define MIB (1024u * 1024u)

/* --- running out of memory: the linker puts this in the place of realloc(3) --- */

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool no_memory;

void *__wrap_realloc(void *memory, size_t size)
{
    return no_memory ? NULL : __real_realloc(memory, size);
}

/* --- a response --- */

static void make(struct response *response, uint32_t max_frame)
{
    assert_int_equal(response_init(response, max_frame), 0);
    assert_int_equal(response->trouble, RESPONSE_FINE);
    assert_int_equal(response_result_size(response), 0);
}

/* A bin of that many bytes in all, header included (which takes 5). */
static int pack_blob(struct response *response, size_t size)
{
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i * 31 >> 3);
    bytes[0] = 0xc6;
    frame_put_length(bytes + 1, (uint32_t)(size - 5));
    int result = response->packer.callback(response->packer.data, (const char *)bytes, size);
    free(bytes);
    return result;
}

static void assert_blob(const unsigned char *bytes, size_t size)
{
    assert_int_equal(bytes[0], 0xc6);
    assert_int_equal(frame_get_length(bytes + 1), size - 5);
    for (size_t i = 5; i < size; i++)
        if (bytes[i] != (unsigned char)(i * 31 >> 3))
            fail_msg("byte %zu of %zu differs", i, size);
}

static void assert_frame(const struct response *response, const void *bytes, size_t size)
{
    assert_int_equal(response->size, size);
    assert_memory_equal(response->bytes, bytes, size);
}

/* Decodes the frame as a whole: [1, 7, nil, result]. */
static void assert_decodes(const struct response *response)
{
    msgpack_unpacked unpacked;
    size_t offset = 0, size = response->size - FRAME_HEADER_SIZE;
    assert_int_equal(frame_get_length(response->bytes), size);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(
        msgpack_unpack_next(&unpacked, (const char *)response->bytes + FRAME_HEADER_SIZE, size, &offset),
        MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, size);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(unpacked.data.via.array.size, 4);
    assert_int_equal(unpacked.data.via.array.ptr[0].via.u64, 1);
    assert_int_equal(unpacked.data.via.array.ptr[1].via.u64, 7);
    assert_int_equal(unpacked.data.via.array.ptr[2].type, MSGPACK_OBJECT_NIL);
    msgpack_unpacked_destroy(&unpacked);
}

/* --- results --- */

static void test_nothing_packed_is_nil(void **state)
{
    (void)state;
    struct response response;
    make(&response, MIB);
    assert_int_equal(response_finish(&response, 7), 0);
    assert_frame(&response, "\0\0\0\x09\x94\x01\xce\0\0\0\x07\xc0\xc0", 13);
    free(response.bytes);
}

static void test_a_small_result_to_the_byte(void **state)
{
    (void)state;
    struct response response;
    make(&response, MIB);
    msgpack_pack_array(&response.packer, 2);
    msgpack_pack_int(&response.packer, 5);
    msgpack_pack_true(&response.packer);
    assert_int_equal(response_result_size(&response), 3);
    assert_memory_equal(response_result(&response), "\x92\x05\xc3", 3);
    assert_int_equal(response_finish(&response, 0x01020304), 0);
    assert_frame(&response, "\0\0\0\x0b\x94\x01\xce\x01\x02\x03\x04\xc0\x92\x05\xc3", 15);
    free(response.bytes);
}

static void test_results_grow(void **state)
{
    (void)state;
    static const size_t sizes[] = {16372, 16373, 20000, 65536, MIB, MIB + 1, 3 * MIB + 17, 9 * MIB};
    struct response response;
    make(&response, 16 * MIB);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        response_reset(&response);
        assert_int_equal(pack_blob(&response, sizes[i]), 0);
        assert_true(response.capacity >= response.size);
        assert_int_equal(response_result_size(&response), sizes[i]);
        assert_int_equal(response_finish(&response, 7), 0);
        assert_blob(response_result(&response), sizes[i]);
        assert_decodes(&response);
    }
    free(response.bytes);
}

static void test_results_in_many_pieces(void **state)
{
    (void)state;
    const unsigned count = 200000;
    struct response response;
    make(&response, 4 * MIB);
    msgpack_pack_array(&response.packer, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(msgpack_pack_uint32(&response.packer, i), 0);
    assert_int_equal(response_finish(&response, 7), 0);
    assert_decodes(&response);
    free(response.bytes);
}

static void test_each_call_starts_empty(void **state)
{
    (void)state;
    struct response response;
    make(&response, MIB);
    for (unsigned i = 0; i < 3; i++) {
        response_reset(&response);
        msgpack_pack_int(&response.packer, (int)i);
        assert_int_equal(response_finish(&response, 7), 0);
        assert_int_equal(response.size, 13);
        assert_int_equal(response.bytes[12], i);
    }
    free(response.bytes);
}

/* --- limits --- */

/* max_frame covers the 8 bytes in front of the result. */
static void test_the_largest_frame(void **state)
{
    (void)state;
    static const uint32_t limits[] = {64, 1000, 16384, 16385, 40000, 3 * MIB};
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        struct response response;
        make(&response, limits[i]);
        assert_int_equal(pack_blob(&response, limits[i] - 8), 0);
        assert_int_equal(response_finish(&response, 7), 0);
        assert_int_equal(frame_get_length(response.bytes), limits[i]);
        assert_true(response.capacity <= response.limit || response.capacity <= 16384);
        assert_decodes(&response);

        response_reset(&response);
        assert_int_equal(pack_blob(&response, limits[i] - 7), -1);
        assert_int_equal(response.trouble, RESPONSE_TOO_LARGE);
        assert_int_equal(msgpack_pack_nil(&response.packer), -1);
        assert_int_equal(response_finish(&response, 7), -1);
        assert_int_equal(response.trouble, RESPONSE_TOO_LARGE);

        response_reset(&response);
        assert_int_equal(response_finish(&response, 7), 0);
        assert_int_equal(response.size, 13);
        free(response.bytes);
    }
}

static void test_too_large_by_small_steps(void **state)
{
    (void)state;
    struct response response;
    make(&response, 100000);
    unsigned packed = 0;
    while (msgpack_pack_uint64(&response.packer, UINT64_MAX) == 0)
        packed++;
    assert_int_equal(response.trouble, RESPONSE_TOO_LARGE);
    assert_in_range(response.size, 1, FRAME_HEADER_SIZE + 100000);
    assert_in_range(packed, (100000 - 8) / 9 - 1, (100000 - 8) / 9);
    free(response.bytes);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct response response;
    make(&response, 16 * MIB);
    msgpack_pack_array(&response.packer, 2);
    no_memory = true;
    int result = pack_blob(&response, MIB);
    no_memory = false;
    assert_int_equal(result, -1);
    assert_int_equal(response.trouble, RESPONSE_NO_MEMORY);
    assert_int_equal(msgpack_pack_nil(&response.packer), -1);
    assert_int_equal(response_finish(&response, 7), -1);
    assert_int_equal(response.trouble, RESPONSE_NO_MEMORY);

    response_reset(&response);
    assert_int_equal(pack_blob(&response, MIB), 0);
    assert_int_equal(response_finish(&response, 7), 0);
    assert_decodes(&response);
    free(response.bytes);
}

/* --- memory between calls --- */

static void test_memory_is_given_back(void **state)
{
    (void)state;
    struct response response;
    make(&response, 16 * MIB);
    size_t at_first = response.capacity;
    assert_int_equal(pack_blob(&response, 9 * MIB), 0);
    assert_true(response.capacity > 9 * MIB);
    response_reset(&response);
    assert_true(response.capacity > 9 * MIB);
    response_trim(&response);
    assert_int_equal(response.capacity, at_first);

    assert_int_equal(pack_blob(&response, MIB / 2), 0);
    size_t kept = response.capacity;
    response_trim(&response);
    assert_int_equal(response.capacity, kept);
    free(response.bytes);
}

static void test_memory_that_cannot_be_given_back_is_used(void **state)
{
    (void)state;
    struct response response;
    make(&response, 16 * MIB);
    assert_int_equal(pack_blob(&response, 9 * MIB), 0);
    no_memory = true;
    response_trim(&response);
    no_memory = false;
    assert_int_equal(response.trouble, RESPONSE_FINE);
    assert_int_equal(pack_blob(&response, 9 * MIB), 0);
    assert_int_equal(response_finish(&response, 7), 0);
    assert_decodes(&response);
    free(response.bytes);
}

/* --- errors --- */

static const struct envelope_error sample = {
    .code = "INTERNAL", .reason = "ENGINE_ERROR", .message = "no", .executed = true};

static void assert_is_sample(const struct response *response, bool has_msgid)
{
    unsigned char expected[ENVELOPE_ERROR_MAX];
    size_t size = envelope_write_error(expected, has_msgid, 7, &sample);
    assert_frame(response, expected, size);
}

static void test_an_error_replaces_the_result(void **state)
{
    (void)state;
    struct response response;
    make(&response, MIB);
    assert_int_equal(pack_blob(&response, 50000), 0);
    response_error(&response, true, 7, &sample);
    assert_is_sample(&response, true);
    response_error(&response, false, 7, &sample);
    assert_is_sample(&response, false);
    free(response.bytes);
}

/* Even where the frame has no room for it: an error is what the caller must get. */
static void test_an_error_after_trouble(void **state)
{
    (void)state;
    struct response response;
    make(&response, 64);
    assert_int_equal(pack_blob(&response, 1000), -1);
    response_error(&response, true, 7, &sample);
    assert_int_equal(response.trouble, RESPONSE_FINE);
    assert_is_sample(&response, true);
    response_reset(&response);
    assert_int_equal(response_finish(&response, 7), 0);
    assert_int_equal(response.size, 13);
    free(response.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_packed_is_nil),
        cmocka_unit_test(test_a_small_result_to_the_byte),
        cmocka_unit_test(test_results_grow),
        cmocka_unit_test(test_results_in_many_pieces),
        cmocka_unit_test(test_each_call_starts_empty),
        cmocka_unit_test(test_the_largest_frame),
        cmocka_unit_test(test_too_large_by_small_steps),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_memory_that_cannot_be_given_back_is_used),
        cmocka_unit_test(test_an_error_replaces_the_result),
        cmocka_unit_test(test_an_error_after_trouble),
    };
    return cmocka_run_group_tests_name("response", tests, NULL, NULL);
}
