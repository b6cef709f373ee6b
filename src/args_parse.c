#include "args.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "args_format.h"

/* Not an element of the argument but the argument. */
#define WHOLE SIZE_MAX

struct parse {
    const struct signature *signature; /* may be NULL */
    const struct args_arena *arena;
    char *error;
    size_t error_size;
    size_t index; /* of the argument being read */
    va_list arguments;
};

/* Always ARGS_BAD_ARGUMENT. */
__attribute__((format(printf, 3, 4))) static enum args_result
fail_argument(const struct parse *parse, size_t element, const char *complaint, ...)
{
    char name[100] = "", place[40] = "", text[200];
    if (parse->signature != NULL && parse->index < signature_max_params(parse->signature))
        snprintf(name, sizeof(name), " '%s'", signature_param_name(parse->signature, parse->index));
    if (element != WHOLE)
        snprintf(place, sizeof(place), "[%zu]", element);
    va_list arguments;
    va_start(arguments, complaint);
    vsnprintf(text, sizeof(text), complaint, arguments);
    va_end(arguments);
    snprintf(parse->error, parse->error_size, "argument %zu%s%s: %s", parse->index + 1, name, place, text);
    return ARGS_BAD_ARGUMENT;
}

static enum args_result fail_type(const struct parse *parse, size_t element, const char *expected,
                                  const msgpack_object *object)
{
    return fail_argument(parse, element, "expected %s, got %s", expected, signature_type_name(object));
}

/* NULL with the error told. */
static void *allocate(const struct parse *parse, size_t size)
{
    void *memory = parse->arena->allocate(parse->arena->context, size);
    if (memory == NULL)
        fail_argument(parse, WHOLE, "no memory for %zu bytes", size);
    return memory;
}

/* For so many doubles or int64_t; never NULL because there are none. */
static void *allocate_array(const struct parse *parse, uint32_t count)
{
    _Static_assert(sizeof(double) == 8 && sizeof(size_t) == 8, "a 32-bit count cannot overflow the size");
    return allocate(parse, 8 * (count > 0 ? (size_t)count : 1));
}

static enum args_result check_int(const struct parse *parse, size_t element, const msgpack_object *object,
                                  int64_t low, uint64_t high)
{
    bool positive = object->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    if (!positive && object->type != MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return fail_type(parse, element, "int", object);
    if (positive ? object->via.u64 <= high : object->via.i64 >= low)
        return ARGS_OK;
    const char *sign = positive ? "" : "-";
    uint64_t magnitude = positive ? object->via.u64 : -(uint64_t)object->via.i64;
    return fail_argument(parse, element, "expected int from %" PRId64 " to %" PRIu64 ", got %s%" PRIu64, low,
                         high, sign, magnitude);
}

/* i L K */
static enum args_result parse_int(struct parse *parse, char code, const msgpack_object *object)
{
    enum args_result result;
    if (code == 'i') {
        int *out = va_arg(parse->arguments, int *);
        result = check_int(parse, WHOLE, object, INT_MIN, INT_MAX);
        if (result == ARGS_OK)
            *out = (int)object->via.i64;
    } else if (code == 'L') {
        int64_t *out = va_arg(parse->arguments, int64_t *);
        result = check_int(parse, WHOLE, object, INT64_MIN, INT64_MAX);
        if (result == ARGS_OK)
            *out = object->via.i64;
    } else {
        uint64_t *out = va_arg(parse->arguments, uint64_t *);
        result = check_int(parse, WHOLE, object, 0, UINT64_MAX);
        if (result == ARGS_OK)
            *out = object->via.u64;
    }
    return result;
}

static enum args_result parse_bool(struct parse *parse, const msgpack_object *object)
{
    bool *out = va_arg(parse->arguments, bool *);
    if (object->type != MSGPACK_OBJECT_BOOLEAN)
        return fail_type(parse, WHOLE, "bool", object);
    *out = object->via.boolean;
    return ARGS_OK;
}

static bool to_double(const msgpack_object *object, double *out)
{
    switch (object->type) {
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        *out = object->via.f64;
        return true;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        *out = (double)object->via.u64;
        return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        *out = (double)object->via.i64;
        return true;
    default:
        return false;
    }
}

static enum args_result parse_double(struct parse *parse, const msgpack_object *object)
{
    double *out = va_arg(parse->arguments, double *);
    return to_double(object, out) ? ARGS_OK : fail_type(parse, WHOLE, "float", object);
}

static enum args_result copy_string(struct parse *parse, const char *bytes, size_t size, const char **out)
{
    const char *nul = memchr(bytes, '\0', size);
    if (nul != NULL)
        return fail_argument(parse, WHOLE, "expected str without NUL, got one at position %zu",
                             (size_t)(nul - bytes));
    char *copy = allocate(parse, size + 1);
    if (copy == NULL)
        return ARGS_NO_MEMORY;
    memcpy(copy, bytes, size);
    copy[size] = '\0';
    *out = copy;
    return ARGS_OK;
}

/* s s# z z# y#. A pointer is NULL for None and for nothing else. */
static enum args_result parse_bytes(struct parse *parse, char code, bool with_length,
                                    const msgpack_object *object)
{
    const char **out = va_arg(parse->arguments, const char **);
    size_t *length = with_length ? va_arg(parse->arguments, size_t *) : NULL;
    const char *bytes = NULL;
    size_t size = 0;
    if (object->type == MSGPACK_OBJECT_STR && code != 'y') {
        bytes = object->via.str.ptr;
        size = object->via.str.size;
    } else if (object->type == MSGPACK_OBJECT_BIN && code == 'y') {
        bytes = object->via.bin.ptr;
        size = object->via.bin.size;
    } else if (object->type == MSGPACK_OBJECT_NIL && code == 'z') {
        *out = NULL;
        if (with_length)
            *length = 0;
        return ARGS_OK;
    } else {
        return fail_type(parse, WHOLE, code == 's' ? "str" : code == 'z' ? "str | None" : "bytes", object);
    }
    if (size == 0)
        bytes = "";
    if (!with_length)
        return copy_string(parse, bytes, size, out);
    *out = bytes;
    *length = size;
    return ARGS_OK;
}

static enum args_result parse_doubles(struct parse *parse, const msgpack_object *object)
{
    const double **out = va_arg(parse->arguments, const double **);
    size_t *length = va_arg(parse->arguments, size_t *);
    if (object->type != MSGPACK_OBJECT_ARRAY)
        return fail_type(parse, WHOLE, "array[float]", object);
    const msgpack_object_array *array = &object->via.array;
    double *values = allocate_array(parse, array->size);
    if (values == NULL)
        return ARGS_NO_MEMORY;
    for (size_t i = 0; i < array->size; i++)
        if (!to_double(&array->ptr[i], &values[i]))
            return fail_type(parse, i, "float", &array->ptr[i]);
    *out = values;
    *length = array->size;
    return ARGS_OK;
}

static enum args_result parse_ints(struct parse *parse, const msgpack_object *object)
{
    const int64_t **out = va_arg(parse->arguments, const int64_t **);
    size_t *length = va_arg(parse->arguments, size_t *);
    if (object->type != MSGPACK_OBJECT_ARRAY)
        return fail_type(parse, WHOLE, "array[int]", object);
    const msgpack_object_array *array = &object->via.array;
    int64_t *values = allocate_array(parse, array->size);
    if (values == NULL)
        return ARGS_NO_MEMORY;
    for (size_t i = 0; i < array->size; i++) {
        enum args_result result = check_int(parse, i, &array->ptr[i], INT64_MIN, INT64_MAX);
        if (result != ARGS_OK)
            return result;
        values[i] = array->ptr[i].via.i64;
    }
    *out = values;
    *length = array->size;
    return ARGS_OK;
}

static enum args_result parse_item(struct parse *parse, const char *item, const msgpack_object *object)
{
    switch (*item) {
    case 'p':
        return parse_bool(parse, object);
    case 'd':
        return parse_double(parse, object);
    case 's':
    case 'z':
    case 'y':
        return parse_bytes(parse, *item, item[1] == '#', object);
    case 'D':
        return parse_doubles(parse, object);
    case 'Q':
        return parse_ints(parse, object);
    case 'O':
        *va_arg(parse->arguments, const msgpack_object **) = object;
        return ARGS_OK;
    default:
        return parse_int(parse, *item, object);
    }
}

/* The whole format, before any variable is fetched by it. */
static enum args_result check_parse_format(const struct parse *parse, const char *format, size_t *required,
                                           size_t *most)
{
    const char *bar = NULL;
    *required = *most = 0;
    for (const char *at = format; *at != '\0';) {
        size_t size = args_item_size(at, ARGS_PARSE);
        if (*at == '|') {
            if (bar != NULL)
                return args_fail_format(parse->error, parse->error_size, format, at, "a second '|'");
            bar = at++;
            continue;
        }
        if (size == 0)
            return args_fail_item(parse->error, parse->error_size, format, at);
        at += size;
        *most += 1;
        *required += bar == NULL;
    }
    return ARGS_OK;
}

static enum args_result check_count(const struct parse *parse, uint32_t given, size_t required, size_t most)
{
    if (given >= required && given <= most)
        return ARGS_OK;
    char takes[60] = "no";
    if (required < most)
        snprintf(takes, sizeof(takes), "%zu to %zu", required, most);
    else if (most > 0)
        snprintf(takes, sizeof(takes), "%zu", most);
    snprintf(parse->error, parse->error_size, "takes %s argument%s, %u %s given", takes,
             required == 1 && most == 1 ? "" : "s", given, given == 1 ? "was" : "were");
    return ARGS_BAD_ARGUMENT;
}

enum args_result args_parse(const struct signature *signature, const msgpack_object_array *params,
                            const struct args_arena *arena, char *error, size_t error_size,
                            const char *format, va_list arguments)
{
    struct parse parse = {.signature = signature, .arena = arena, .error = error, .error_size = error_size};
    size_t required, most;
    enum args_result result = check_parse_format(&parse, format, &required, &most);
    if (result == ARGS_OK)
        result = check_count(&parse, params->size, required, most);
    if (result != ARGS_OK)
        return result;
    va_copy(parse.arguments, arguments);
    for (const char *at = format; result == ARGS_OK && parse.index < params->size; parse.index++) {
        at += *at == '|';
        result = parse_item(&parse, at, &params->ptr[parse.index]);
        at += args_item_size(at, ARGS_PARSE);
    }
    va_end(parse.arguments);
    return result;
}
