#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base64.h"
#include "object.h"
#include "text.h"

/* Why a value cannot be sent. */
struct reason {
    char *text;
    size_t size;
};

static int explain(const struct reason *reason, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int explain(const struct reason *reason, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason->text, reason->size, format, arguments);
    va_end(arguments);
    return -1;
}

static int pack_value(msgpack_packer *packer, const json_t *value, const struct reason *why);

static int pack_bytes(msgpack_packer *packer, const json_t *digits, const json_t *extension,
                      const struct reason *why)
{
    size_t size = json_string_length(digits);
    unsigned char *bytes = malloc(size + 1);

    if (!bytes)
        return explain(why, "out of memory");
    if (!base64_decode(json_string_value(digits), size, bytes, &size)) {
        free(bytes);
        return explain(why, "what \"$base64\" holds is not base64");
    }
    if (extension) {
        msgpack_pack_ext(packer, size, (int8_t)json_integer_value(extension));
        msgpack_pack_ext_body(packer, bytes, size);
    } else {
        msgpack_pack_bin(packer, size);
        msgpack_pack_bin_body(packer, bytes, size);
    }
    free(bytes);
    return 0;
}

static int pack_float_name(msgpack_packer *packer, const char *name, const struct reason *why)
{
    if (strcmp(name, "nan") == 0)
        return msgpack_pack_double(packer, NAN);
    if (strcmp(name, "inf") == 0)
        return msgpack_pack_double(packer, INFINITY);
    if (strcmp(name, "-inf") == 0)
        return msgpack_pack_double(packer, -INFINITY);
    return explain(why, "\"$float\" can be \"nan\", \"inf\" or \"-inf\"");
}

static bool is_extension_type(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= INT8_MIN &&
           json_integer_value(value) <= INT8_MAX;
}

static int pack_map(msgpack_packer *packer, const json_t *map, const struct reason *why)
{
    const char *key;
    json_t *value;

    msgpack_pack_map(packer, json_object_size(map));
    json_object_foreach((json_t *)map, key, value)
    {
        object_pack_text(packer, key, strlen(key));
        if (pack_value(packer, value, why) < 0)
            return -1;
    }
    return 0;
}

/* A map with reserved keys and nothing else stands for something else. */
static int pack_object(msgpack_packer *packer, const json_t *object, const struct reason *why)
{
    size_t size = json_object_size(object);
    const json_t *digits = json_object_get(object, "$base64");
    const json_t *name = json_object_get(object, "$float");
    const json_t *extension = json_object_get(object, "$ext");

    if (size == 1 && json_is_string(digits))
        return pack_bytes(packer, digits, NULL, why);
    if (size == 2 && json_is_string(digits) && is_extension_type(extension))
        return pack_bytes(packer, digits, extension, why);
    if (size == 1 && json_is_string(name))
        return pack_float_name(packer, json_string_value(name), why);
    return pack_map(packer, object, why);
}

static int pack_list(msgpack_packer *packer, const json_t *list, const struct reason *why)
{
    size_t index;
    json_t *value;

    msgpack_pack_array(packer, json_array_size(list));
    json_array_foreach(list, index, value)
    {
        if (pack_value(packer, value, why) < 0)
            return -1;
    }
    return 0;
}

static int pack_value(msgpack_packer *packer, const json_t *value, const struct reason *why)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return pack_object(packer, value, why);
    case JSON_ARRAY:
        return pack_list(packer, value, why);
    case JSON_STRING:
        object_pack_text(packer, json_string_value(value), json_string_length(value));
        return 0;
    case JSON_INTEGER:
        return msgpack_pack_int64(packer, json_integer_value(value));
    case JSON_REAL:
        return msgpack_pack_double(packer, json_real_value(value));
    case JSON_TRUE:
        return msgpack_pack_true(packer);
    case JSON_FALSE:
        return msgpack_pack_false(packer);
    case JSON_NULL:
        break;
    }
    return msgpack_pack_nil(packer);
}

/* Whether text is JSON, although jansson cannot hold it; then the reason is explained. */
static bool is_unreadable_json(const json_error_t *error, const struct reason *why)
{
    switch (json_error_code(error)) {
    case json_error_numeric_overflow:
        explain(why, "a number is out of range (in lists and maps, integers reach from -2^63 to 2^63-1); "
                     "a string of digits is written '\"123\"'");
        return true;
    case json_error_stack_overflow:
        explain(why, "it is nested too deeply");
        return true;
    case json_error_null_byte_in_key:
        explain(why, "a key in it contains \\u0000");
        return true;
    case json_error_out_of_memory:
        explain(why, "out of memory");
        return true;
    default:
        return false;
    }
}

/* msgpack's integers reach further than jansson's. */
static bool pack_large_integer(msgpack_packer *packer, const char *text)
{
    size_t digits = strspn(text, "0123456789");

    errno = 0;
    uint64_t number = strtoull(text, NULL, 10);
    if (digits == 0 || text[digits] != '\0' || errno == ERANGE)
        return false;
    msgpack_pack_uint64(packer, number);
    return true;
}

static bool is_number(const char *text)
{
    char *end;

    strtod(text, &end);
    return end != text && *end == '\0';
}

/* jansson stops at the first number it cannot hold, be what follows JSON or not. */
static bool is_json_up_to_error(const char *text, const json_error_t *error)
{
    return json_error_code(error) != json_error_numeric_overflow || is_number(text) || *text == '[' ||
           *text == '{';
}

static int pack_string(msgpack_packer *packer, const char *text, const struct reason *why)
{
    if (!text_is_utf8(text, strlen(text)))
        return explain(why, "it is not UTF-8; bytes are written as {\"$base64\": \"...\"}");
    object_pack_text(packer, text, strlen(text));
    return 0;
}

int json_pack_argument(msgpack_packer *packer, const char *text, char *why, size_t why_size)
{
    const struct reason reason = {why, why_size};
    json_error_t error;
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);

    if (value) {
        int result = pack_value(packer, value, &reason);
        json_decref(value);
        return result;
    }
    if (json_error_code(&error) == json_error_numeric_overflow && pack_large_integer(packer, text))
        return 0;
    if (is_json_up_to_error(text, &error) && is_unreadable_json(&error, &reason))
        return -1;
    return pack_string(packer, text, &reason);
}

int json_pack_array(msgpack_packer *packer, FILE *file, char *why, size_t why_size)
{
    const struct reason reason = {why, why_size};
    json_error_t error;
    json_t *value = json_loadf(file, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    int result = -1;

    if (!value) {
        if (!is_unreadable_json(&error, &reason))
            explain(&reason, "it is not JSON: line %d, column %d: %s", error.line, error.column, error.text);
    } else if (!json_is_array(value)) {
        explain(&reason, "it is not a JSON array");
    } else {
        result = pack_value(packer, value, &reason);
    }
    json_decref(value);
    return result;
}
