#include "args.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "args_format.h"

/* Brackets inside one another. */
#define BUILD_MAX_DEPTH 32
/* Doubles that are handed to the packer at once. */
#define BATCH 512

struct build {
    msgpack_packer *packer;
    char *error;
    size_t error_size;
    const char *format;
    va_list arguments;
};

static bool is_open(char c)
{
    return c == '[' || c == '(' || c == '{';
}

static bool is_close(char c)
{
    return c == ']' || c == ')' || c == '}';
}

static bool is_filler(char c)
{
    return c == ' ' || c == ',' || c == ':';
}

static enum args_result fail_build(const struct build *build, const char *at, const char *complaint)
{
    return args_fail_format(build->error, build->error_size, build->format, at, "%s", complaint);
}

/* Whether a packing function did what it should. */
static enum args_result packed(const struct build *build, int status)
{
    if (status == 0)
        return ARGS_OK;
    snprintf(build->error, build->error_size, "no room for the result");
    return ARGS_NO_MEMORY;
}

/* What a group holds, from its first item on; ended by its bracket or the format. The format is valid. */
static size_t count_items(const char *at)
{
    size_t count = 0, depth = 0;
    for (; *at != '\0'; at++) {
        if (is_open(*at))
            count += depth++ == 0;
        else if (!is_close(*at))
            count += depth == 0 && *at != '#' && !is_filler(*at);
        else if (depth-- == 0)
            break;
    }
    return count;
}

static enum args_result check_end(const struct build *build, const char *open, const char *at)
{
    char expected = *open == '[' ? ']' : *open == '(' ? ')' : '}';
    if (*at != expected)
        return args_fail_format(build->error, build->error_size, build->format, at, "expected '%c', got '%c'",
                                expected, *at);
    if (*open == '{' && count_items(open + 1) % 2 != 0)
        return fail_build(build, open, "a key without a value in the dict");
    return ARGS_OK;
}

static enum args_result check_build_format(const struct build *build)
{
    const char *open[BUILD_MAX_DEPTH];
    size_t depth = 0;
    for (const char *at = build->format; *at != '\0';) {
        size_t size = args_item_size(at, ARGS_BUILD);
        enum args_result result = ARGS_OK;
        if (is_open(*at)) {
            if (depth == BUILD_MAX_DEPTH)
                return fail_build(build, at, "too many brackets inside one another");
            open[depth++] = at;
        } else if (is_close(*at)) {
            if (depth == 0)
                return fail_build(build, at, "a closing bracket too many");
            result = check_end(build, open[--depth], at);
        } else if (size == 0 && !is_filler(*at)) {
            result = args_fail_item(build->error, build->error_size, build->format, at);
        }
        if (result != ARGS_OK)
            return result;
        at += size > 0 ? size : 1;
    }
    return depth == 0 ? ARGS_OK : fail_build(build, open[depth - 1], "a bracket that is never closed");
}

/* What a pointer and a length from the engine must be: nothing is only NULL where the length is 0, and
 * msgpack counts in 32 bits. */
static enum args_result check_length(const struct build *build, const char *item, const void *data,
                                     size_t length)
{
    if (data == NULL && length > 0)
        return fail_build(build, item, "NULL with a length");
    if (length > UINT32_MAX)
        return fail_build(build, item, "a length of more than 32 bits");
    return ARGS_OK;
}

static enum args_result pack_string(struct build *build, const char *item)
{
    const char *string = va_arg(build->arguments, const char *);
    size_t length = item[1] == '#' ? va_arg(build->arguments, size_t) : string != NULL ? strlen(string) : 0;
    if (item[1] != '#' && string == NULL)
        return packed(build, msgpack_pack_nil(build->packer));
    enum args_result result = check_length(build, item, string, length);
    if (result != ARGS_OK)
        return result;
    return packed(build, msgpack_pack_str_with_body(build->packer, length > 0 ? string : "", length));
}

static enum args_result pack_bytes(struct build *build, const char *item)
{
    const char *bytes = va_arg(build->arguments, const char *);
    size_t length = va_arg(build->arguments, size_t);
    enum args_result result = check_length(build, item, bytes, length);
    if (result != ARGS_OK)
        return result;
    return packed(build, msgpack_pack_bin_with_body(build->packer, length > 0 ? bytes : "", length));
}

/* At most BATCH. One call for many: a result of 64 MiB holds seven million of them. */
static int pack_batch(msgpack_packer *packer, const double *values, size_t count)
{
    char bytes[9 * BATCH];
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
            bits = __builtin_bswap64(bits);
        bytes[9 * i] = (char)0xcb;
        memcpy(&bytes[9 * i + 1], &bits, sizeof(bits));
    }
    return packer->callback(packer->data, bytes, 9 * count);
}

static enum args_result pack_doubles(struct build *build, const char *item)
{
    const double *values = va_arg(build->arguments, const double *);
    size_t length = va_arg(build->arguments, size_t);
    enum args_result result = check_length(build, item, values, length);
    if (result != ARGS_OK)
        return result;
    int status = msgpack_pack_array(build->packer, length);
    for (size_t i = 0; i < length && status == 0; i += BATCH)
        status = pack_batch(build->packer, values + i, length - i < BATCH ? length - i : BATCH);
    return packed(build, status);
}

static enum args_result pack_ints(struct build *build, const char *item)
{
    const int64_t *values = va_arg(build->arguments, const int64_t *);
    size_t length = va_arg(build->arguments, size_t);
    enum args_result result = check_length(build, item, values, length);
    if (result != ARGS_OK)
        return result;
    int status = msgpack_pack_array(build->packer, length);
    for (size_t i = 0; i < length && status == 0; i++)
        status = msgpack_pack_int64(build->packer, values[i]);
    return packed(build, status);
}

static enum args_result pack_object(struct build *build, const char *item)
{
    const msgpack_object *object = va_arg(build->arguments, const msgpack_object *);
    if (object == NULL)
        return fail_build(build, item, "NULL for an object");
    return packed(build, msgpack_pack_object(build->packer, *object));
}

static enum args_result pack_item(struct build *build, const char *item)
{
    msgpack_packer *packer = build->packer;
    switch (*item) {
    case 'n':
        return packed(build, msgpack_pack_nil(packer));
    case 'p':
        return packed(build,
                      va_arg(build->arguments, int) ? msgpack_pack_true(packer) : msgpack_pack_false(packer));
    case 'i':
        return packed(build, msgpack_pack_int(packer, va_arg(build->arguments, int)));
    case 'L':
        return packed(build, msgpack_pack_int64(packer, va_arg(build->arguments, int64_t)));
    case 'K':
        return packed(build, msgpack_pack_uint64(packer, va_arg(build->arguments, uint64_t)));
    case 'd':
        return packed(build, msgpack_pack_double(packer, va_arg(build->arguments, double)));
    case 's':
        return pack_string(build, item);
    case 'y':
        return pack_bytes(build, item);
    case 'D':
        return pack_doubles(build, item);
    case 'Q':
        return pack_ints(build, item);
    case 'O':
        return pack_object(build, item);
    case '[':
    case '(':
        return packed(build, msgpack_pack_array(packer, count_items(item + 1)));
    case '{':
        return packed(build, msgpack_pack_map(packer, count_items(item + 1) / 2));
    default: /* a closing bracket, or between items */
        return ARGS_OK;
    }
}

enum args_result args_build(msgpack_packer *packer, char *error, size_t error_size, const char *format,
                            va_list arguments)
{
    struct build build = {.packer = packer, .error = error, .error_size = error_size, .format = format};
    enum args_result result = check_build_format(&build);
    if (result != ARGS_OK)
        return result;
    size_t count = count_items(format);
    if (count == 0)
        result = packed(&build, msgpack_pack_nil(packer));
    else if (count > 1)
        result = packed(&build, msgpack_pack_array(packer, count));
    va_copy(build.arguments, arguments);
    for (const char *at = format; *at != '\0' && result == ARGS_OK;) {
        size_t size = args_item_size(at, ARGS_BUILD);
        result = pack_item(&build, at);
        at += size > 0 ? size : 1;
    }
    va_end(build.arguments);
    return result;
}
