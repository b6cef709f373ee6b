#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "signature.h"

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
#define DICT(dict)                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_MAP, .via.map = { COUNT(dict), (dict) }                                       \
    }
#define EMPTY_LIST                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_ARRAY                                                                         \
    }
#define EMPTY_DICT                                                                                           \
    {                                                                                                        \
        .type = MSGPACK_OBJECT_MAP                                                                           \
    }

static struct signature *parse(const char *text, const char *name)
{
    char error[400] = "untouched";
    struct signature *signature = signature_parse(text, name, error, sizeof(error));
    if (signature == NULL)
        fail_msg("%s", error);
    return signature;
}

/* "" if params fit. Valid until the next call. */
static const char *check(const char *text, const char *name, msgpack_object *params, size_t count)
{
    static char error[1000];
    struct signature *signature = parse(text, name);
    const msgpack_object_array array = {(uint32_t)count, params};
    bool fits = signature_check(signature, &array, error, sizeof(error));
    signature_free(signature);
    return fits ? "" : error;
}

static const char *check_one(const char *type, msgpack_object object)
{
    char text[500];
    snprintf(text, sizeof(text), "f(a: %s) -> None", type);
    return check(text, "f", &object, 1);
}

/* --- Parsing --- */

static void test_good_signatures(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        size_t min, max;
    } good[] = {
        {"f()->None", "f", 0, 0},
        {" \t\r\n f ( ) \n->\t None ", "f", 0, 0},
        {"suggest(word: str, limit: int = 10) -> list[str]", "suggest", 1, 2},
        {"a.b_2.c(x:int,y:int,_z9:int)->Any", "a.b_2.c", 3, 3},
        {"f(a: list[dict[str, list[int | None]]] | None = None, b: bytes | str = '') -> dict[str, Any]", "f",
         0, 2},
        {"f(a: array[float] = [], b: array [ int ] = [ ], c: dict[int, str] = {}, d: dict[str, int] = { }) "
         "-> None",
         "f", 0, 4},
        {"f(a: bool = True, b: bool = False, c: Any = None, d: Any = 1, e: Any = []) -> bool", "f", 0, 5},
        {"f(a: int = -1, b: int = +5, c: int = 0, d: float = 3, e: int | str = 'x') -> int", "f", 0, 5},
        {"f(a: float = 1.5, b: float = -.5, c: float = 5., d: float = 1e9, e: float = 1.5E-3, g: float = "
         "2e+4) -> int",
         "f", 0, 6},
        {"f(a: str = \"it's\", b: str = 'a \"b\" \\' \\\\', c: str = 'ü, )') -> str", "f", 0, 3},
        {"f(none: int, Str: int, int: int, str: str, classes: int) -> float", "f", 5, 5},
        {"f(a: "
         "list[list[list[list[list[list[list[list[list[list[list[list[list[list[list[list[int]]]]]]]]]]]]]]]]"
         ") -> int",
         "f", 1, 1},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        struct signature *signature = parse(good[i].text, good[i].name);
        assert_int_equal(signature_min_params(signature), good[i].min);
        assert_int_equal(signature_max_params(signature), good[i].max);
        signature_free(signature);
    }
}

static void test_bad_signatures(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *complaint; /* behind `signature "text": ` */
    } bad[] = {
        {"", "expected the method's name at column 1"},
        {"  (a: int) -> int", "expected the method's name at column 3"},
        {"g() -> int", "the method's name is 'f', not 'g' at column 1"},
        {"f.g() -> int", "the method's name is 'f', not 'f.g' at column 1"},
        {"ff() -> int", "the method's name is 'f', not 'ff' at column 1"},
        {"f", "expected '(' after 'f' at column 2"},
        {"f. () -> int", "expected '(' after 'f' at column 2"},
        {"f(", "expected a parameter's name after '(' at column 3"},
        {"f(1a: int) -> int", "expected a parameter's name after '(' at column 3"},
        {"f(a) -> int", "expected ':' after 'a' at column 4"},
        {"f(word str)", "expected ':' after 'word' at column 8"},
        {"f(a:) -> int", "expected a type after ':' at column 5"},
        {"f(a: integer) -> int", "unknown type 'integer' at column 6"},
        {"f(a: in) -> int", "unknown type 'in' at column 6"},
        {"f(a: none) -> int", "unknown type 'none' at column 6"},
        {"f(a: int |) -> int", "expected a type after '|' at column 11"},
        {"f(a: int", "expected ')' after 'int' at column 9"},
        {"f(a: int b: int) -> int", "expected ')' after 'int' at column 10"},
        {"f(a: int,) -> int", "expected a parameter's name after ',' at column 10"},
        {"f(a: int, a: str) -> int", "a second parameter 'a' at column 11"},
        {"f(a: int, class: str) -> int", "'class' is a keyword of Python at column 11"},
        {"f(False: int) -> int", "'False' is a keyword of Python at column 3"},
        {"f(yield: int) -> int", "'yield' is a keyword of Python at column 3"},
        {"f(a: int = 1, b: str) -> int", "'b' needs a default, because 'a' has one at column 21"},
        {"f(z: int, a: int = 1, b: str) -> int", "'b' needs a default, because 'a' has one at column 29"},
        {"f(a: list) -> int", "expected '[' after 'list' at column 10"},
        {"f(a: list[]) -> int", "expected a type after '[' at column 11"},
        {"f(a: list[int) -> int", "expected ']' after 'int' at column 14"},
        {"f(a: list[int, int]) -> int", "expected ']' after 'int' at column 14"},
        {"f(a: dict[int]) -> int", "expected ',' after 'int' at column 14"},
        {"f(a: dict[int,]) -> int", "expected a type after ',' at column 15"},
        {"f(a: int[int]) -> int", "expected ')' after 'int' at column 9"},
        {"f(a: array[str]) -> int", "an array holds float or int at column 12"},
        {"f(a: array[int | float]) -> int", "an array holds float or int at column 12"},
        {"f(a: array[array[int]]) -> int", "an array holds float or int at column 12"},
        {"f()", "expected '->' after ')' at column 4"},
        {"f() - > int", "expected '->' after ')' at column 5"},
        {"f() ->", "expected a type after '->' at column 7"},
        {"f() -> int,", "expected the end after 'int' at column 11"},
        {"f() -> int f", "expected the end after 'int' at column 12"},
        {"f(a: int =) -> int", "expected a literal after '=' at column 11"},
        {"f(a: int = --5) -> int", "expected a literal after '=' at column 12"},
        {"f(a: int = -) -> int", "expected a literal after '=' at column 12"},
        {"f(a: float = .) -> int", "expected a literal after '=' at column 14"},
        {"f(a: int = 05) -> int", "an int does not begin with 0 at column 12"},
        {"f(a: float = 1e) -> int", "the exponent has no digits at column 14"},
        {"f(a: int = 1x) -> int", "expected ')' after '1' at column 13"},
        {"f(a: bool = Truer) -> int", "expected a literal after '=' at column 13"},
        {"f(a: bool = Tru) -> int", "expected a literal after '=' at column 13"},
        {"f(a: list[int] = [1]) -> int", "expected ']' after '[' at column 19"},
        {"f(a: str = 'x) -> int", "unfinished string at column 12"},
        {"f(a: str = 'x\\", "unfinished string at column 12"},
        {"f(a: str = 'x\\'", "unfinished string at column 12"},
        {"f(a: str = '", "unfinished string at column 12"},
        {"f(a: int = 1.5) -> int", "the default of type float does not fit int at column 12"},
        {"f(a: int = True) -> int", "the default of type bool does not fit int at column 12"},
        {"f(a: str = None) -> int", "the default of type None does not fit str at column 12"},
        {"f(a: bytes = '') -> int", "the default of type str does not fit bytes at column 14"},
        {"f(a: list[int] | None = {}) -> int",
         "the default of type dict does not fit list[int] | None at column 25"},
        {"f(a: dict[str,int]|int = []) -> int",
         "the default of type list does not fit dict[str, int] | int at column 26"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char error[300], expected[300];
        assert_null(signature_parse(bad[i].text, "f", error, sizeof(error)));
        snprintf(expected, sizeof(expected), "signature \"%s\": %s", bad[i].text, bad[i].complaint);
        assert_string_equal(error, expected);
    }
}

static void test_the_documented_error(void **state)
{
    (void)state;
    char error[200];
    assert_null(signature_parse("suggest(word str)", "suggest", error, sizeof(error)));
    assert_string_equal(error, "signature \"suggest(word str)\": expected ':' after 'word' at column 14");
}

/* A method that is one byte short somewhere is never taken for a whole one, and nothing is read behind its
 * end. */
static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "f(a: list[int | None], b: dict[str, array[float]] = {}, c: str = 'x\\'y', d: float = -1.5e3) -> Any";
    char error[300];
    for (size_t size = 0; size < sizeof(text) - 1; size++) {
        char *prefix = strndup(text, size);
        assert_non_null(prefix);
        assert_null(signature_parse(prefix, "f", error, sizeof(error)));
        assert_non_null(strstr(error, " at column "));
        free(prefix);
    }
    signature_free(parse(text, "f"));
}

static void test_hostile_nesting(void **state)
{
    (void)state;
    char error[300];
    char text[20000] =
        "f(a: list[list[list[list[list[list[list[list[list[list[list[list[list[list[list[list[list[int";
    assert_null(signature_parse(text, "f", error, sizeof(error)));
    assert_non_null(strstr(error, ": types are nested more than 16 deep at column 90"));
    text[5] = '\0';
    for (unsigned i = 0; i < 3900; i++)
        strcat(text, "list[");
    assert_null(signature_parse(text, "f", error, sizeof(error)));
    assert_non_null(strstr(error, "list[...\": types are nested more than 16 deep at column 90"));
    text[5] = '\0';
    for (unsigned i = 0; i < 3000; i++)
        strcat(text, "int | ");
    strcat(text, "str) -> None");
    signature_free(parse(text, "f"));
}

/* Whatever the engine wrote and however small the buffer: one line of UTF-8, nothing beyond the end. */
static void test_errors_are_one_line(void **state)
{
    (void)state;
    char error[200];
    assert_null(signature_parse("f(\n\xff\xc3\xa9\x01)", "f", error, sizeof(error)));
    assert_string_equal(error,
                        "signature \"f( ?\xc3\xa9 )\": expected a parameter's name after '(' at column 4");
    static const char invalid[] =
        "\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xe0\x80\xaf \xf8 \x80 \xf0\x9f\x98";
    assert_null(signature_parse(invalid, "f", error, sizeof(error)));
    assert_string_equal(error,
                        "signature \"?? ??? ???? ??? ? ? ???\": expected the method's name at column 1");
    assert_null(signature_parse("\xf0\x9f\x98\x80\xe2\x82\xac", "f", error, sizeof(error)));
    assert_string_equal(error,
                        "signature \"\xf0\x9f\x98\x80\xe2\x82\xac\": expected the method's name at column 1");
    char *exact = malloc(20);
    assert_non_null(exact);
    assert_null(signature_parse("f(1234\xc3\xa9)", "f", exact, 19));
    assert_string_equal(exact, "signature \"f(1234?");
    assert_null(signature_parse("f(1234\xc3\xa9)", "f", exact, 1));
    assert_string_equal(exact, "");
    free(exact);
    assert_null(signature_parse("f(", "f", NULL, 0));
}

static void test_parameter_names(void **state)
{
    (void)state;
    struct signature *signature = parse("suggest(word: str, limit: int = 10) -> list[str]", "suggest");
    assert_string_equal(signature_param_name(signature, 0), "word");
    assert_string_equal(signature_param_name(signature, 1), "limit");
    assert_string_equal(signature_param_name(signature, 2), "?");
    assert_string_equal(signature_param_name(signature, SIZE_MAX), "?");
    signature_free(signature);
    signature_free(NULL);
}

/* --- Checking --- */

/* Every type against every kind of object. */
static void test_what_fits(void **state)
{
    (void)state;
    msgpack_object numbers[] = {INT(1), NEG(-2), F64(0.5), F32(0.5)};
    msgpack_object ints[] = {INT(1), NEG(-2)};
    msgpack_object bools[] = {BOOL(true)};
    msgpack_object strs[] = {STR("a"), STR("")};
    msgpack_object nested[] = {LIST(ints), EMPTY_LIST};
    msgpack_object_kv str_int[] = {{STR("a"), INT(1)}, {STR("b"), NEG(-1)}};
    msgpack_object_kv int_str[] = {{INT(1), STR("a")}};
    const msgpack_object objects[] = {
        NIL,         BOOL(false), INT(UINT64_MAX), NEG(INT64_MIN), F32(1),        F64(1),
        STR("s"),    BIN("b"),    EXT("e"),        EMPTY_LIST,     LIST(numbers), LIST(ints),
        LIST(bools), LIST(strs),  LIST(nested),    EMPTY_DICT,     DICT(str_int), DICT(int_str),
    };
    static const struct {
        const char *type;
        const char *fits; /* a mark for each of objects */
    } types[] = {
        {"None", "x                 "},
        {"bool", " x                "},
        {"int", "  xx              "},
        {"float", "  xxxx            "},
        {"str", "      x           "},
        {"bytes", "       x          "},
        {"Any", "xxxxxxxxxxxxxxxxxx"},
        {"list[Any]", "         xxxxxx   "},
        {"list[int]", "         x x      "},
        {"list[float]", "         xxx      "},
        {"list[bool]", "         x  x     "},
        {"list[str]", "         x   x    "},
        {"list[list[int]]", "         x    x   "},
        {"list[list[str]]", "         x        "},
        {"list[int] | list[str]", "         x x x    "},
        {"list[int | list[Any]]", "         x x  x   "},
        {"array[int]", "         x x      "},
        {"array[float]", "         xxx      "},
        {"dict[Any, Any]", "               xxx"},
        {"dict[str, int]", "               xx "},
        {"dict[int, str]", "               x x"},
        {"dict[int, Any] | dict[Any, int]", "               xxx"},
        {"str | None", "x     x           "},
        {"int | bool | bytes", " xxx   x          "},
        {"list[bool] | None | dict[str, float]", "x        x  x  xx "},
        {"None | Any", "xxxxxxxxxxxxxxxxxx"},
    };
    for (size_t i = 0; i < COUNT(types); i++) {
        assert_int_equal(strlen(types[i].fits), COUNT(objects));
        for (size_t j = 0; j < COUNT(objects); j++) {
            const char *error = check_one(types[i].type, objects[j]);
            if ((*error == '\0') != (types[i].fits[j] == 'x'))
                fail_msg("%s, object %zu: %s", types[i].type, j, *error ? error : "fits");
        }
    }
}

static void test_counts(void **state)
{
    (void)state;
    msgpack_object params[] = {STR("a"), INT(1), INT(2)};
    static const char suggest[] = "suggest(word: str, limit: int = 10) -> list[str]";
    assert_string_equal(check(suggest, "suggest", params, 1), "");
    assert_string_equal(check(suggest, "suggest", params, 2), "");
    assert_string_equal(check(suggest, "suggest", params, 3),
                        "suggest() takes 1 to 2 arguments, 3 were given");
    assert_string_equal(check(suggest, "suggest", NULL, 0), "suggest() takes 1 to 2 arguments, 0 were given");
    assert_string_equal(check("f() -> None", "f", NULL, 0), "");
    assert_string_equal(check("f() -> None", "f", params, 1), "f() takes no arguments, 1 was given");
    assert_string_equal(check("f(a: str) -> None", "f", params, 2), "f() takes 1 argument, 2 were given");
    assert_string_equal(check("f(a: str = '') -> None", "f", params, 2),
                        "f() takes 0 to 1 arguments, 2 were given");
    assert_string_equal(check("f(a: str, b: int) -> None", "f", params, 1),
                        "f() takes 2 arguments, 1 was given");
}

static void test_which_argument(void **state)
{
    (void)state;
    msgpack_object params[] = {STR("a"), STR("b")};
    static const char suggest[] = "suggest(word: str, limit: int = 10) -> list[str]";
    assert_string_equal(check(suggest, "suggest", params, 2),
                        "suggest(): argument 2 'limit': expected int, got str");
}

static void test_type_texts(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *error;
    } texts[] = {
        {"str|None", "expected str | None, got ext"},
        {"dict [ str,list[ int|None ] ]", "expected dict[str, list[int | None]], got ext"},
        {"array[ float ]|array[int]|bytes", "expected array[float] | array[int] | bytes, got ext"},
        {"bool | int | float", "expected bool | int | float, got ext"},
    };
    char expected[200];
    for (size_t i = 0; i < COUNT(texts); i++) {
        snprintf(expected, sizeof(expected), "f(): argument 1 'a': %s", texts[i].error);
        assert_string_equal(check_one(texts[i].type, (msgpack_object)EXT("")), expected);
    }
}

static void test_type_names(void **state)
{
    (void)state;
    static const struct {
        msgpack_object object;
        const char *name;
    } names[] = {
        {NIL, "None"},        {BOOL(true), "bool"}, {INT(1), "int"},  {NEG(-1), "int"},
        {F32(1), "float"},    {F64(1), "float"},    {STR(""), "str"}, {BIN(""), "bytes"},
        {EMPTY_LIST, "list"}, {EMPTY_DICT, "dict"}, {EXT(""), "ext"},
    };
    for (size_t i = 0; i < COUNT(names); i++)
        assert_string_equal(signature_type_name(&names[i].object), names[i].name);
}

static void test_paths_in_lists(void **state)
{
    (void)state;
    msgpack_object words[] = {STR("a"), STR("b"), STR("c"), BIN("d"), INT(1)};
    msgpack_object lists[] = {EMPTY_LIST, LIST(words)};
    assert_string_equal(check_one("list[str]", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a'[3]: expected str, got bytes");
    assert_string_equal(check_one("list[list[str]]", (msgpack_object)LIST(lists)),
                        "f(): argument 1 'a'[1][3]: expected str, got bytes");
    assert_string_equal(check_one("list[list[str]]", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a'[0]: expected list[str], got str");
    assert_string_equal(check_one("array[float]", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a'[0]: expected float, got str");
}

static void test_paths_in_unions(void **state)
{
    (void)state;
    msgpack_object words[] = {STR("a"), BIN("b")};
    assert_string_equal(check_one("list[str] | None", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a'[1]: expected str, got bytes");
    assert_string_equal(check_one("list[str | None]", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a'[1]: expected str | None, got bytes");
    assert_string_equal(check_one("list[str] | array[int]", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a': expected list[str] | array[int], got list");
    assert_string_equal(check_one("dict[str, int] | str", (msgpack_object)LIST(words)),
                        "f(): argument 1 'a': expected dict[str, int] | str, got list");
}

static void test_paths_in_dicts(void **state)
{
    (void)state;
    static const struct {
        msgpack_object key;
        const char *shown;
    } keys[] = {
        {STR("key"), "'key'"},
        {STR(""), "''"},
        {STR("gr\xc3\xb6\xc3\x9f"
             "e\n\xff"),
         "'gr\xc3\xb6\xc3\x9f"
         "e ?'"},
        {STR("12345678901234567890123456789012"), "'12345678901234567890123456789012'"},
        {STR("123456789012345678901234567890123"), "'12345678901234567890123456789012...'"},
        {BIN("key"), "b'key'"},
        {INT(UINT64_MAX), "18446744073709551615"},
        {NEG(INT64_MIN), "-9223372036854775808"},
        {F64(0.5), "0.5"},
        {BOOL(true), "True"},
        {BOOL(false), "False"},
        {NIL, "None"},
        {EMPTY_LIST, "list"},
        {EXT(""), "ext"},
    };
    char expected[200];
    for (size_t i = 0; i < COUNT(keys); i++) {
        msgpack_object_kv pairs[] = {{INT(1), INT(1)}, {keys[i].key, STR("x")}};
        snprintf(expected, sizeof(expected), "f(): argument 1 'a'[%s]: expected int, got str", keys[i].shown);
        assert_string_equal(check_one("dict[Any, int]", (msgpack_object)DICT(pairs)), expected);
    }
    msgpack_object_kv inner[] = {{INT(7), NIL}};
    msgpack_object_kv outer[] = {{STR("table"), DICT(inner)}};
    msgpack_object list[] = {EMPTY_DICT, DICT(outer)};
    assert_string_equal(check_one("list[dict[str, dict[int, float]]]", (msgpack_object)LIST(list)),
                        "f(): argument 1 'a'[1]['table'][7]: expected float, got None");
    assert_string_equal(check_one("list[dict[str, dict[str, None]]]", (msgpack_object)LIST(list)),
                        "f(): argument 1 'a'[1]['table'] key 7: expected str, got int");
}

static void test_small_error_buffers(void **state)
{
    (void)state;
    struct signature *signature = parse("f(a: dict[str, int]) -> None", "f");
    msgpack_object_kv pairs[] = {{STR("\xe2\x82\xac"), STR("x")}};
    msgpack_object params[] = {DICT(pairs)};
    const msgpack_object_array array = {1, params};
    static const char whole[] = "f(): argument 1 'a'['\xe2\x82\xac']: expected int, got str";
    for (size_t size = 0; size <= sizeof(whole); size++) {
        char *error = malloc(size);
        assert_true(error != NULL || size == 0);
        assert_false(signature_check(signature, &array, error, size));
        if (size == 23 || size == 24)
            assert_string_equal(error, size == 23 ? "f(): argument 1 'a'['?" : "f(): argument 1 'a'['??");
        else if (size > 0)
            assert_memory_equal(error, whole, size - 1);
        assert_true(size == 0 || error[size < sizeof(whole) ? size - 1 : sizeof(whole) - 1] == '\0');
        free(error);
    }
    signature_free(signature);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_signatures),
        cmocka_unit_test(test_bad_signatures),
        cmocka_unit_test(test_the_documented_error),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_hostile_nesting),
        cmocka_unit_test(test_errors_are_one_line),
        cmocka_unit_test(test_parameter_names),
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_which_argument),
        cmocka_unit_test(test_type_texts),
        cmocka_unit_test(test_type_names),
        cmocka_unit_test(test_paths_in_lists),
        cmocka_unit_test(test_paths_in_unions),
        cmocka_unit_test(test_paths_in_dicts),
        cmocka_unit_test(test_small_error_buffers),
    };
    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
