#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fields.h"

enum colour { RED, GREEN, BLUE };

struct thing {
    uint64_t large;
    uint32_t middle;
    uint16_t small;
    enum colour colour;
    int number;
    bool flag;
    char text[8];
    size_t used;
    char bytes[16];
    uint64_t words[3];
    uint64_t later;
};

#define THING(member, kind, ...) FIELD(struct thing, member, kind, __VA_ARGS__)
static const struct field fields[] = {
    THING(large, FIELD_UNSIGNED), THING(middle, FIELD_UNSIGNED),
    THING(small, FIELD_UNSIGNED), THING(colour, FIELD_UNSIGNED, .most = BLUE),
    THING(number, FIELD_SIGNED),  THING(flag, FIELD_BOOL),
    THING(text, FIELD_TEXT),      THING(bytes, FIELD_BYTES, .most = 15, .used = offsetof(struct thing, used)),
    THING(words, FIELD_WORDS),    THING(later, FIELD_UNSIGNED, .optional = true),
};
#define COUNT (sizeof(fields) / sizeof(*fields))

static const struct thing example = {.large = UINT64_MAX,
                                     .middle = UINT32_MAX,
                                     .small = UINT16_MAX,
                                     .colour = BLUE,
                                     .number = -1,
                                     .flag = true,
                                     .text = "seven77",
                                     .used = 5,
                                     .bytes = "a\0b\0c",
                                     .words = {1, 0, UINT64_MAX},
                                     .later = 9};

static void write_example(msgpack_sbuffer *buffer)
{
    msgpack_packer packer;
    msgpack_sbuffer_init(buffer);
    msgpack_packer_init(&packer, buffer, msgpack_sbuffer_write);
    assert_int_equal(fields_write(fields, COUNT, &example, &packer), 0);
}

static void test_there_and_back(void **state)
{
    (void)state;
    msgpack_sbuffer buffer;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    struct thing thing;
    char why[128];
    memset(&thing, 0, sizeof(thing));
    write_example(&buffer);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, buffer.data, buffer.size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(fields_read(fields, COUNT, &unpacked.data, &thing, why, sizeof(why)), 0);
    assert_int_equal(thing.large, example.large);
    assert_int_equal(thing.middle, example.middle);
    assert_int_equal(thing.small, example.small);
    assert_int_equal(thing.colour, example.colour);
    assert_int_equal(thing.number, -1);
    assert_true(thing.flag);
    assert_string_equal(thing.text, example.text);
    assert_int_equal(thing.used, 5);
    assert_memory_equal(thing.bytes, example.bytes, 5);
    assert_memory_equal(thing.words, example.words, sizeof(thing.words));
    assert_int_equal(thing.later, 9);
    msgpack_unpacked_destroy(&unpacked);
    msgpack_sbuffer_destroy(&buffer);
}

/* Reads the example with one of its values replaced, or left out. Returns the result. */
static int read_changed(const char *name, const msgpack_object *value, char *why, size_t size)
{
    msgpack_sbuffer buffer;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    static struct thing thing;
    thing = (struct thing){.later = 77};
    write_example(&buffer);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, buffer.data, buffer.size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    msgpack_object_map *map = &unpacked.data.via.map;
    for (uint32_t i = 0; i < map->size; i++) {
        msgpack_object_kv *pair = &map->ptr[i];
        if (pair->key.via.str.size != strlen(name) || memcmp(pair->key.via.str.ptr, name, strlen(name)) != 0)
            continue;
        if (value) {
            pair->val = *value;
        } else {
            pair->key.via.str.size--;
        }
        break;
    }
    int result = fields_read(fields, COUNT, &unpacked.data, &thing, why, size);
    if (result == 0 && strcmp(name, "later") == 0)
        assert_int_equal(thing.later, 77);
    msgpack_unpacked_destroy(&unpacked);
    msgpack_sbuffer_destroy(&buffer);
    return result;
}

static void test_what_is_absent(void **state)
{
    (void)state;
    char why[128];
    for (size_t i = 0; i < COUNT; i++) {
        int result = read_changed(fields[i].name, NULL, why, sizeof(why));
        assert_int_equal(result, fields[i].optional ? 0 : -1);
        if (result < 0)
            assert_non_null(strstr(why, fields[i].name));
    }
}

static void test_what_is_of_another_type(void **state)
{
    (void)state;
    char why[128];
    const msgpack_object nothing = {.type = MSGPACK_OBJECT_NIL};
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(read_changed(fields[i].name, &nothing, why, sizeof(why)), -1);
        assert_non_null(strstr(why, fields[i].name));
    }
}

static msgpack_object text_of(const char *text, uint32_t size, msgpack_object_type type)
{
    msgpack_object object = {.type = type};
    object.via.str.ptr = text;
    object.via.str.size = size;
    return object;
}

static void test_what_is_too_large(void **state)
{
    (void)state;
    char why[128];
    const msgpack_object beyond32 = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                                     .via.u64 = (uint64_t)UINT32_MAX + 1};
    const msgpack_object beyond16 = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = UINT16_MAX + 1};
    const msgpack_object no_colour = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = BLUE + 1};
    const msgpack_object long_text = text_of("eight888", 8, MSGPACK_OBJECT_STR);
    const msgpack_object cut_text = text_of("a\0b", 3, MSGPACK_OBJECT_STR);
    const msgpack_object long_bytes = text_of("0123456789abcdef", 16, MSGPACK_OBJECT_BIN);
    assert_int_equal(read_changed("middle", &beyond32, why, sizeof(why)), -1);
    assert_int_equal(read_changed("small", &beyond16, why, sizeof(why)), -1);
    assert_int_equal(read_changed("colour", &no_colour, why, sizeof(why)), -1);
    assert_int_equal(read_changed("number", &beyond32, why, sizeof(why)), -1);
    assert_int_equal(read_changed("text", &long_text, why, sizeof(why)), -1);
    assert_int_equal(read_changed("text", &cut_text, why, sizeof(why)), -1);
    assert_int_equal(read_changed("bytes", &long_bytes, why, sizeof(why)), -1);
}

static void test_what_is_no_map(void **state)
{
    (void)state;
    struct thing thing = {0};
    char why[128];
    const msgpack_object nothing = {.type = MSGPACK_OBJECT_NIL};
    assert_int_equal(fields_read(fields, COUNT, &nothing, &thing, why, sizeof(why)), -1);
    assert_int_equal(fields_read(fields, COUNT, NULL, &thing, why, sizeof(why)), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),          cmocka_unit_test(test_what_is_absent),
        cmocka_unit_test(test_what_is_of_another_type), cmocka_unit_test(test_what_is_too_large),
        cmocka_unit_test(test_what_is_no_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
