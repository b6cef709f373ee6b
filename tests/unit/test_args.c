#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "args.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NIL                                                                                                  \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_NIL                                                                           \
    }
#define BOOL(b)                                                                                              \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = (b)                                                   \
    }
#define INT(n)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = (n)                                              \
    }
#define NEG(n)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = (n)                                              \
    }
#define F32(x)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_FLOAT32, .via.f64 = (x)                                                       \
    }
#define F64(x)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_FLOAT64, .via.f64 = (x)                                                       \
    }
#define STR(s)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_STR, .via.str = { sizeof(s) - 1, (s) }                                        \
    }
#define BIN(s)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_BIN, .via.bin = { sizeof(s) - 1, (s) }                                        \
    }
#define EXT(s)                                                                                               \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_EXT, .via.ext = { 1, sizeof(s) - 1, (s) }                                     \
    }
#define LIST(list)                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_ARRAY, .via.array = { COUNT(list), (list) }                                   \
    }
#define EMPTY_STR                                                                                            \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_STR                                                                           \
    }
#define EMPTY_BIN                                                                                            \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_BIN                                                                           \
    }
#define EMPTY_LIST                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_ARRAY                                                                         \
    }
#define EMPTY_DICT                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_MAP                                                                           \
    }

static char error[300];

/* --- Parsing --- */

static void *blocks[100];
static size_t block_count;
static size_t most_blocks = COUNT(blocks);

static void *allocate(void *context, size_t size)
{
    assert_ptr_equal(context, blocks);
    assert_true(size > 0);
    if (block_count == most_blocks)
        return NULL;
    void *block = malloc(size);
    assert_non_null(block);
    return blocks[block_count++] = block;
}

static int free_blocks(void **state)
{
    (void)state;
    while (block_count > 0)
        free(blocks[--block_count]);
    most_blocks = COUNT(blocks);
    return 0;
}

static enum args_result parse_with(const struct signature *signature, msgpack_object *params, size_t count,
                                   const char *format, va_list arguments)
{
    const struct args_arena arena = {allocate, blocks};
    const msgpack_object_array array = {(uint32_t)count, params};
    error[0] = '\0';
    return args_parse(signature, &array, &arena, error, sizeof(error), format, arguments);
}

static enum args_result parse(msgpack_object *params, size_t count, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum args_result result = parse_with(NULL, params, count, format, arguments);
    va_end(arguments);
    return result;
}

static enum args_result parse_signed(const struct signature *signature, msgpack_object *params, size_t count,
                                     const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum args_result result = parse_with(signature, params, count, format, arguments);
    va_end(arguments);
    return result;
}

#define assert_complaint(expected, call)                                                                     \
    do {                                                                                                     \
        assert_int_equal(call, ARGS_BAD_ARGUMENT);                                                           \
        assert_string_equal(error, expected);                                                                \
    } while (0)

static void test_scalars(void **state)
{
    (void)state;
    bool p = false;
    int i = 0;
    int64_t l = 0;
    uint64_t k = 0;
    double d = 0;
    const msgpack_object *o = NULL;
    msgpack_object params[] = {BOOL(true), NEG(-3), NEG(INT64_MIN), INT(UINT64_MAX), F64(0.5), EXT("x")};
    assert_int_equal(parse(params, 6, "piLKdO", &p, &i, &l, &k, &d, &o), ARGS_OK);
    assert_true(p);
    assert_int_equal(i, -3);
    assert_true(l == INT64_MIN);
    assert_true(k == UINT64_MAX);
    assert_true(d == 0.5);
    assert_ptr_equal(o, &params[5]);
    assert_int_equal(parse(NULL, 0, ""), ARGS_OK);
}

static void test_int_ranges(void **state)
{
    (void)state;
    int i = 7;
    int64_t l = 7;
    uint64_t k = 7;
    msgpack_object ends[] = {INT(INT_MAX), INT(INT64_MAX), INT(0)};
    assert_int_equal(parse(ends, 3, "iLK", &i, &l, &k), ARGS_OK);
    assert_true(i == INT_MAX && l == INT64_MAX && k == 0);
    msgpack_object lowest = NEG(INT_MIN);
    assert_int_equal(parse(&lowest, 1, "i", &i), ARGS_OK);
    assert_true(i == INT_MIN);

    msgpack_object above = INT(3000000000), just_above = INT(2147483648), below = NEG(-2147483649);
    assert_complaint("argument 1: expected int from -2147483648 to 2147483647, got 3000000000",
                     parse(&above, 1, "i", &i));
    assert_complaint("argument 1: expected int from -2147483648 to 2147483647, got 2147483648",
                     parse(&just_above, 1, "i", &i));
    assert_complaint("argument 1: expected int from -2147483648 to 2147483647, got -2147483649",
                     parse(&below, 1, "i", &i));
    msgpack_object huge = INT((uint64_t)INT64_MAX + 1), tiny = NEG(INT64_MIN), minus = NEG(-5);
    assert_complaint(
        "argument 1: expected int from -9223372036854775808 to 9223372036854775807, got 9223372036854775808",
        parse(&huge, 1, "L", &l));
    assert_complaint("argument 1: expected int from -2147483648 to 2147483647, got -9223372036854775808",
                     parse(&tiny, 1, "i", &i));
    assert_complaint("argument 1: expected int from 0 to 18446744073709551615, got -5",
                     parse(&minus, 1, "K", &k));
    assert_true(i == INT_MIN && l == INT64_MAX && k == 0);
}

static void test_doubles(void **state)
{
    (void)state;
    static const struct {
        msgpack_object object;
        double value;
    } numbers[] = {
        {F64(-1e300), -1e300},
        {F32(0.25), 0.25},
        {INT(UINT64_MAX), 18446744073709551616.0},
        {NEG(INT64_MIN), -9223372036854775808.0},
        {INT(7), 7},
        {F64(INFINITY), INFINITY},
    };
    for (size_t i = 0; i < COUNT(numbers); i++) {
        double d = 0;
        msgpack_object object = numbers[i].object;
        assert_int_equal(parse(&object, 1, "d", &d), ARGS_OK);
        assert_true(d == numbers[i].value);
    }
}

static void test_strings(void **state)
{
    (void)state;
    static char text[] = {'a', 'b', 'c'};
    const char *s = NULL, *empty = NULL, *raw = NULL, *bytes = NULL;
    size_t raw_length = 0, bytes_length = 0;
    msgpack_object params[] = {
        {.type = MSGPACK_OBJECT_STR, .via.str = {3, text}}, EMPTY_STR, STR("a\0b"), BIN("\0\1")};
    assert_int_equal(parse(params, 4, "sss#y#", &s, &empty, &raw, &raw_length, &bytes, &bytes_length),
                     ARGS_OK);
    assert_string_equal(s, "abc");
    assert_ptr_equal(s, blocks[0]);
    assert_string_equal(empty, "");
    assert_ptr_equal(raw, params[2].via.str.ptr);
    assert_int_equal(raw_length, 3);
    assert_ptr_equal(bytes, params[3].via.bin.ptr);
    assert_int_equal(bytes_length, 2);
    assert_int_equal(block_count, 2);
}

static void test_null_is_none_and_nothing_else(void **state)
{
    (void)state;
    const char *a = "", *b = "", *c = NULL, *d = NULL, *e = NULL, *f = NULL;
    size_t b_length = 7, d_length = 7, e_length = 7, f_length = 7;
    msgpack_object params[] = {NIL, NIL, STR("x"), EMPTY_STR, EMPTY_STR, EMPTY_BIN};
    assert_int_equal(
        parse(params, 6, "zz#zz#s#y#", &a, &b, &b_length, &c, &d, &d_length, &e, &e_length, &f, &f_length),
        ARGS_OK);
    assert_null(a);
    assert_null(b);
    assert_string_equal(c, "x");
    assert_non_null(d);
    assert_non_null(e);
    assert_non_null(f);
    assert_true(b_length == 0 && d_length == 0 && e_length == 0 && f_length == 0);
}

static void test_nul_inside(void **state)
{
    (void)state;
    const char *s = NULL;
    msgpack_object inside = STR("ab\0c"), first = STR("\0");
    assert_complaint("argument 1: expected str without NUL, got one at position 2",
                     parse(&inside, 1, "s", &s));
    assert_complaint("argument 1: expected str without NUL, got one at position 0",
                     parse(&first, 1, "z", &s));
    assert_null(s);
    assert_int_equal(block_count, 0);
}

static void test_arrays(void **state)
{
    (void)state;
    const double *d = NULL, *no_doubles = NULL;
    const int64_t *q = NULL, *no_ints = NULL;
    size_t d_length = 7, q_length = 7, no_doubles_length = 7, no_ints_length = 7;
    msgpack_object numbers[] = {F64(0.5), F32(0.25), INT(3), NEG(-4)};
    msgpack_object ints[] = {INT(INT64_MAX), NEG(INT64_MIN), INT(0)};
    msgpack_object params[] = {LIST(numbers), LIST(ints), EMPTY_LIST, EMPTY_LIST};
    assert_int_equal(parse(params, 4, "DQDQ", &d, &d_length, &q, &q_length, &no_doubles, &no_doubles_length,
                           &no_ints, &no_ints_length),
                     ARGS_OK);
    assert_int_equal(d_length, 4);
    assert_true(d[0] == 0.5 && d[1] == 0.25 && d[2] == 3 && d[3] == -4);
    assert_int_equal(q_length, 3);
    assert_true(q[0] == INT64_MAX && q[1] == INT64_MIN && q[2] == 0);
    assert_non_null(no_doubles);
    assert_non_null(no_ints);
    assert_true(no_doubles_length == 0 && no_ints_length == 0);
}

static void test_array_elements(void **state)
{
    (void)state;
    const double *d = NULL;
    const int64_t *q = NULL;
    size_t length = 7;
    msgpack_object mixed[] = {F64(1), INT(2), BOOL(true)};
    msgpack_object big[] = {INT(1), INT((uint64_t)INT64_MAX + 1)};
    msgpack_object list = LIST(mixed), large = LIST(big);
    assert_complaint("argument 1[2]: expected float, got bool", parse(&list, 1, "D", &d, &length));
    assert_complaint("argument 1[0]: expected int, got float", parse(&list, 1, "Q", &q, &length));
    assert_complaint("argument 1[1]: expected int from -9223372036854775808 to 9223372036854775807, got "
                     "9223372036854775808",
                     parse(&large, 1, "Q", &q, &length));
    assert_null(d);
    assert_null(q);
    assert_int_equal(length, 7);
}

/* Every code against every type of object: what each refuses, and what it says. */
static void test_wrong_types(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *expected;
        const char *fits; /* a mark for each of the objects below */
    } codes[] = {
        {"p", "bool", " x         "},       {"i", "int", "  xx       "},
        {"L", "int", "  xx       "},        {"d", "float", "  xxxx     "},
        {"s", "str", "      x    "},        {"s#", "str", "      x    "},
        {"z", "str | None", "x     x    "}, {"z#", "str | None", "x     x    "},
        {"y#", "bytes", "       x   "},     {"D", "array[float]", "        x  "},
        {"Q", "array[int]", "        x  "}, {"O", "", "xxxxxxxxxxx"},
    };
    msgpack_object objects[] = {NIL,      BOOL(true), INT(1),     NEG(-1),    F32(1), F64(1),
                                STR("s"), BIN("b"),   EMPTY_LIST, EMPTY_DICT, EXT("")};
    for (size_t i = 0; i < COUNT(codes); i++) {
        for (size_t j = 0; j < COUNT(objects); j++) {
            uint64_t value = 0;
            size_t length = 0;
            char complaint[100];
            snprintf(complaint, sizeof(complaint), "argument 1: expected %s, got %s", codes[i].expected,
                     signature_type_name(&objects[j]));
            enum args_result result = parse(&objects[j], 1, codes[i].format, &value, &length);
            assert_int_equal(result, codes[i].fits[j] == 'x' ? ARGS_OK : ARGS_BAD_ARGUMENT);
            assert_string_equal(error, result == ARGS_OK ? "" : complaint);
        }
    }
}

static void test_optional_arguments(void **state)
{
    (void)state;
    int a = 1, b = 2, c = 3;
    msgpack_object params[] = {INT(10), INT(20), INT(30)};
    assert_int_equal(parse(params, 1, "i|ii", &a, &b, &c), ARGS_OK);
    assert_true(a == 10 && b == 2 && c == 3);
    assert_int_equal(parse(params, 2, "i|ii", &a, &b, &c), ARGS_OK);
    assert_true(a == 10 && b == 20 && c == 3);
    assert_int_equal(parse(params, 3, "|iii", &a, &b, &c), ARGS_OK);
    assert_int_equal(c, 30);
    assert_int_equal(parse(params, 0, "|i", &a), ARGS_OK);
    assert_int_equal(parse(params, 1, "i|", &a), ARGS_OK);
    assert_int_equal(parse(params, 0, "|"), ARGS_OK);
}

static void test_counts(void **state)
{
    (void)state;
    int a = 0, b = 0;
    msgpack_object params[] = {INT(1), INT(2), INT(3)};
    assert_complaint("takes 1 to 2 arguments, 3 were given", parse(params, 3, "i|i", &a, &b));
    assert_complaint("takes 1 to 2 arguments, 0 were given", parse(params, 0, "i|i", &a, &b));
    assert_complaint("takes 0 to 1 arguments, 2 were given", parse(params, 2, "|i", &a));
    assert_complaint("takes 1 argument, 2 were given", parse(params, 2, "i", &a));
    assert_complaint("takes 2 arguments, 1 was given", parse(params, 1, "ii", &a, &b));
    assert_complaint("takes no arguments, 1 was given", parse(params, 1, ""));
    assert_true(a == 0 && b == 0);
}

static void test_names_from_the_signature(void **state)
{
    (void)state;
    int i = 0, j = 0;
    struct signature *signature =
        signature_parse("f(word: Any, limit: Any) -> None", "f", error, sizeof(error));
    assert_non_null(signature);
    msgpack_object mixed[] = {F64(1), STR("")};
    msgpack_object params[] = {INT(1), INT(3000000000), LIST(mixed)};
    assert_complaint("argument 2 'limit': expected int from -2147483648 to 2147483647, got 3000000000",
                     parse_signed(signature, params, 2, "ii", &i, &j));
    const double *d;
    size_t length;
    assert_complaint("argument 1 'word'[1]: expected float, got str",
                     parse_signed(signature, params + 2, 1, "D", &d, &length));
    assert_complaint("argument 3: expected int, got list",
                     parse_signed(signature, params, 3, "iLi", &i, &length, &j));
    signature_free(signature);
}

static void test_bad_parse_formats(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *complaint;
    } bad[] = {
        {"x", "format \"x\": unknown code 'x' at position 1"},
        {"ixi", "format \"ixi\": unknown code 'x' at position 2"},
        {"i i", "format \"i i\": unknown code ' ' at position 2"},
        {"iy", "format \"iy\": 'y' without '#' at position 2"},
        {"yi", "format \"yi\": 'y' without '#' at position 1"},
        {"i#", "format \"i#\": unknown code '#' at position 2"},
        {"D#", "format \"D#\": unknown code '#' at position 2"},
        {"#", "format \"#\": unknown code '#' at position 1"},
        {"s##", "format \"s##\": unknown code '#' at position 3"},
        {"i|i|i", "format \"i|i|i\": a second '|' at position 4"},
        {"||", "format \"||\": a second '|' at position 2"},
        {"n", "format \"n\": unknown code 'n' at position 1"},
        {"[i]", "format \"[i]\": unknown code '[' at position 1"},
        {"i\n\xff", "format \"i??\": unknown code '?' at position 2"},
    };
    msgpack_object params[] = {INT(1), INT(2), INT(3)};
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t a = 7, b = 7, c = 7;
        assert_int_equal(parse(params, 3, bad[i].format, &a, &b, &c), ARGS_BAD_FORMAT);
        assert_string_equal(error, bad[i].complaint);
        assert_true(a == 7 && b == 7 && c == 7);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    const char *s = NULL;
    const double *d = NULL;
    const int64_t *q = NULL;
    size_t length = 7;
    msgpack_object string = STR("abc"), list = EMPTY_LIST;
    most_blocks = 0;
    assert_int_equal(parse(&string, 1, "s", &s), ARGS_NO_MEMORY);
    assert_string_equal(error, "argument 1: no memory for 4 bytes");
    assert_int_equal(parse(&string, 1, "z", &s), ARGS_NO_MEMORY);
    assert_int_equal(parse(&list, 1, "D", &d, &length), ARGS_NO_MEMORY);
    assert_int_equal(parse(&list, 1, "Q", &q, &length), ARGS_NO_MEMORY);
    assert_null(s);
    assert_null(d);
    assert_null(q);
    assert_int_equal(length, 7);
}

/* --- Building --- */

static struct output {
    char bytes[70000];
    size_t size;
    size_t room;
    bool refused;
} output;

static int write_output(void *data, const char *bytes, size_t size)
{
    struct output *out = data;
    assert_non_null(bytes);
    assert_false(out->refused);
    if (size > out->room - out->size) {
        out->refused = true;
        return -1;
    }
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
    return 0;
}

static enum args_result build_in(size_t room, const char *format, ...)
{
    msgpack_packer packer;
    va_list arguments;
    output.size = 0;
    output.room = room;
    output.refused = false;
    error[0] = '\0';
    msgpack_packer_init(&packer, &output, write_output);
    va_start(arguments, format);
    enum args_result result = args_build(&packer, error, sizeof(error), format, arguments);
    va_end(arguments);
    return result;
}

#define build(...) build_in(sizeof(output.bytes), __VA_ARGS__)

#define assert_packed(expected, ...)                                                                         \
    do {                                                                                                     \
        assert_int_equal(build(__VA_ARGS__), ARGS_OK);                                                       \
        assert_int_equal(output.size, sizeof(expected) - 1);                                                 \
        assert_memory_equal(output.bytes, expected, sizeof(expected) - 1);                                   \
        assert_string_equal(error, "");                                                                      \
    } while (0)

static void test_packed_scalars(void **state)
{
    (void)state;
    assert_packed("\xc0", "");
    assert_packed("\xc0", " ,:");
    assert_packed("\xc0", "n");
    assert_packed("\xc2", "p", 0);
    assert_packed("\xc3", "p", 256);
    assert_packed("\x05", "i", 5);
    assert_packed("\xd2\x80\0\0\0", "i", INT_MIN);
    assert_packed("\xd3\x80\0\0\0\0\0\0\0", "L", INT64_MIN);
    assert_packed("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "K", UINT64_MAX);
    assert_packed("\xcb\x3f\xe0\0\0\0\0\0\0", "d", 0.5);
    msgpack_object pair[] = {INT(1), STR("x")}, list = LIST(pair);
    assert_packed("\x92\x01\xa1x", "O", &list);
}

static void test_packed_strings(void **state)
{
    (void)state;
    assert_packed("\xa3"
                  "abc",
                  "s", "abc");
    assert_packed("\xa0", "s", "");
    assert_packed("\xc0", "s", (char *)NULL);
    assert_packed("\xa2"
                  "ab",
                  "s#", "abc", (size_t)2);
    assert_packed("\xa0", "s#", (char *)NULL, (size_t)0);
    assert_packed("\xc4\x02"
                  "ab",
                  "y#", "abc", (size_t)2);
    assert_packed("\xc4\x00", "y#", (char *)NULL, (size_t)0);
    static char text[66000];
    assert_int_equal(build("s#", text, sizeof(text)), ARGS_OK);
    assert_memory_equal(output.bytes, "\xdb\x00\x01\x01\xd0", 5);
    assert_int_equal(output.size, 5 + sizeof(text));
}

static void test_packed_arrays(void **state)
{
    (void)state;
    static const double doubles[] = {0.5, 2};
    static const int64_t ints[] = {5, -1, INT64_MIN};
    assert_packed("\x92\xcb\x3f\xe0\0\0\0\0\0\0\xcb\x40\0\0\0\0\0\0\0", "D", doubles, COUNT(doubles));
    assert_packed("\x93\x05\xff\xd3\x80\0\0\0\0\0\0\0", "Q", ints, COUNT(ints));
    assert_packed("\x90", "D", (double *)NULL, (size_t)0);
    assert_packed("\x90", "Q", (int64_t *)NULL, (size_t)0);
    static double many[5000];
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = (double)i / 3;
    assert_int_equal(build("D", many, COUNT(many)), ARGS_OK);
    assert_memory_equal(output.bytes, "\xdc\x13\x88", 3);
    assert_int_equal(output.size, 3 + 9 * COUNT(many));
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, output.bytes, output.size, NULL), MSGPACK_UNPACK_SUCCESS);
    for (size_t i = 0; i < COUNT(many); i++)
        assert_true(unpacked.data.via.array.ptr[i].via.f64 == many[i]);
    msgpack_unpacked_destroy(&unpacked);
}

static void test_packed_groups(void **state)
{
    (void)state;
    static const double doubles[] = {2};
    assert_packed("\x92\x01\x02", "ii", 1, 2);
    assert_packed("\x93\x01\xa1x\xc0", "i, s#: n", 1, "xy", (size_t)1);
    assert_packed("\x90", "[]");
    assert_packed("\x90", "()");
    assert_packed("\x80", "{}");
    assert_packed("\x92\x90\x80", "[]{ }");
    assert_packed("\x91\x01", "[i]", 1);
    assert_packed("\x91\x01", "( i )", 1);
    assert_packed("\x82\xa1"
                  "a\x01\xa1"
                  "b\x92\x02\x03",
                  "{s:i, s:[ii]}", "a", 1, "b", 2, 3);
    assert_packed("\x81\x01\x81\x02\x03", "{i{ii}}", 1, 2, 3);
    assert_packed("\x81\x91\x01\x90", "{(i)[]}", 1);
    assert_packed("\x93\x91\x91\x01\x92\x02\x03\x04", "[[i]](ii)i", 1, 2, 3, 4);
    assert_packed("\x81\xa1k\x93\xc4\x01x\xa1y\x91\xcb\x40\0\0\0\0\0\0\0", "{s#[y#s#D]}", "k", (size_t)1, "x",
                  (size_t)1, "y", (size_t)1, doubles, COUNT(doubles));
    assert_packed("\xdc\0\x10\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0",
                  "nnnnnnnnnnnnnnnn");
}

static void test_bad_build_formats(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *complaint;
    } bad[] = {
        {"x", "format \"x\": unknown code 'x' at position 1"},
        {"i[ix]", "format \"i[ix]\": unknown code 'x' at position 4"},
        {"iz", "format \"iz\": unknown code 'z' at position 2"},
        {"i|i", "format \"i|i\": unknown code '|' at position 2"},
        {"iy", "format \"iy\": 'y' without '#' at position 2"},
        {"s #", "format \"s #\": unknown code '#' at position 3"},
        {"n#", "format \"n#\": unknown code '#' at position 2"},
        {"i[", "format \"i[\": a bracket that is never closed at position 2"},
        {"[{ii}", "format \"[{ii}\": a bracket that is never closed at position 1"},
        {"i]", "format \"i]\": a closing bracket too many at position 2"},
        {"[i)", "format \"[i)\": expected ']', got ')' at position 3"},
        {"(i}", "format \"(i}\": expected ')', got '}' at position 3"},
        {"{ii]", "format \"{ii]\": expected '}', got ']' at position 4"},
        {"i{i}", "format \"i{i}\": a key without a value in the dict at position 2"},
        {"{i[ii]i}", "format \"{i[ii]i}\": a key without a value in the dict at position 1"},
        {"[{s#:i, s#}]", "format \"[{s#:i, s#}]\": a key without a value in the dict at position 2"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(build(bad[i].format, 1, 1, 1, 1, 1), ARGS_BAD_FORMAT);
        assert_string_equal(error, bad[i].complaint);
        assert_int_equal(output.size, 0);
    }
}

static void test_bracket_depth(void **state)
{
    (void)state;
    char format[200] = "";
    memset(format, '[', 32);
    memset(format + 32, ']', 32);
    assert_int_equal(build(format), ARGS_OK);
    assert_int_equal(output.size, 32);
    memset(format, '[', 33);
    memset(format + 33, ']', 33);
    assert_int_equal(build(format), ARGS_BAD_FORMAT);
    assert_non_null(strstr(error, ": too many brackets inside one another at position 33"));
    assert_int_equal(output.size, 0);
}

static void test_bad_values(void **state)
{
    (void)state;
    static const char *const formats[] = {"s#", "y#", "D", "Q"};
    char complaint[100];
    for (size_t i = 0; i < COUNT(formats); i++) {
        snprintf(complaint, sizeof(complaint), "format \"%s\": NULL with a length at position 1", formats[i]);
        assert_int_equal(build(formats[i], (void *)NULL, (size_t)1), ARGS_BAD_FORMAT);
        assert_string_equal(error, complaint);
        snprintf(complaint, sizeof(complaint), "format \"%s\": a length of more than 32 bits at position 1",
                 formats[i]);
        assert_int_equal(build(formats[i], "x", (size_t)UINT32_MAX + 1), ARGS_BAD_FORMAT);
        assert_string_equal(error, complaint);
        assert_int_equal(output.size, 0);
    }
    assert_int_equal(build("iO", 1, (msgpack_object *)NULL), ARGS_BAD_FORMAT);
    assert_string_equal(error, "format \"iO\": NULL for an object at position 2");
}

/* However little room there is: no success, and no packing once the writer has refused. */
static void test_no_room(void **state)
{
    (void)state;
    static const double doubles[] = {1, 2};
    static const int64_t ints[] = {1, 2};
    msgpack_object object = STR("o");
    static const char format[] = "npiLKdss#y#DQO[]{}";
    assert_int_equal(build(format, 1, 1, (int64_t)1, (uint64_t)1, 1.0, "s", "t", (size_t)1, "u", (size_t)1,
                           doubles, COUNT(doubles), ints, COUNT(ints), &object),
                     ARGS_OK);
    size_t whole = output.size;
    assert_in_range(whole, 40, 60);
    for (size_t room = 0; room < whole; room++) {
        assert_int_equal(build_in(room, format, 1, 1, (int64_t)1, (uint64_t)1, 1.0, "s", "t", (size_t)1, "u",
                                  (size_t)1, doubles, COUNT(doubles), ints, COUNT(ints), &object),
                         ARGS_NO_MEMORY);
        assert_string_equal(error, "no room for the result");
        assert_in_range(output.size, room >= 18 ? room - 17 : 0, room);
    }
    assert_int_equal(build_in(0, ""), ARGS_NO_MEMORY);
}

static void test_small_error_buffers(void **state)
{
    (void)state;
    static const char whole[] = "format \"x\": unknown code 'x' at position 1";
    va_list none;
    memset(&none, 0, sizeof(none));
    msgpack_packer packer = {&output, write_output};
    for (size_t size = 0; size <= sizeof(whole); size++) {
        char *small = malloc(size);
        assert_true(small != NULL || size == 0);
        assert_int_equal(args_build(&packer, small, size, "x", none), ARGS_BAD_FORMAT);
        if (size > 0) {
            assert_memory_equal(small, whole, size - 1);
            assert_int_equal(small[size - 1], '\0');
        }
        free(small);
    }
}

int main(void)
{
#define parse_test(function) cmocka_unit_test_teardown(function, free_blocks)
    const struct CMUnitTest tests[] = {
        parse_test(test_scalars),
        parse_test(test_int_ranges),
        parse_test(test_doubles),
        parse_test(test_strings),
        parse_test(test_null_is_none_and_nothing_else),
        parse_test(test_nul_inside),
        parse_test(test_arrays),
        parse_test(test_array_elements),
        parse_test(test_wrong_types),
        parse_test(test_optional_arguments),
        parse_test(test_counts),
        parse_test(test_names_from_the_signature),
        parse_test(test_bad_parse_formats),
        parse_test(test_no_memory),
        cmocka_unit_test(test_packed_scalars),
        cmocka_unit_test(test_packed_strings),
        cmocka_unit_test(test_packed_arrays),
        cmocka_unit_test(test_packed_groups),
        cmocka_unit_test(test_bad_build_formats),
        cmocka_unit_test(test_bracket_depth),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_small_error_buffers),
    };
    return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
