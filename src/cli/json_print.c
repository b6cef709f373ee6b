#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "cli.h"
#include "object.h"
#include "text.h"

#define INDENT 2

/* Where output goes. Without a file it is only counted: that is how a value is measured. */
struct sink {
    FILE *file;
    size_t count;
    bool limited; /* nothing is written that reaches beyond `limit` */
    size_t limit;
    bool in_key;
};

static bool sink_is_full(const struct sink *sink)
{
    return sink->limited && sink->count > sink->limit;
}

static void put(struct sink *sink, const char *bytes, size_t size)
{
    sink->count += size;
    if (sink->file && !sink_is_full(sink))
        fwrite(bytes, 1, size, sink->file);
}

static void put_text(struct sink *sink, const char *text)
{
    put(sink, text, strlen(text));
}

static void put_escape(struct sink *sink, unsigned code)
{
    char escape[8];

    put(sink, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", code));
}

static void put_character(struct sink *sink, const char *character, size_t size)
{
    static const char specials[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *special = *character ? strchr(specials, *character) : NULL;

    if (special)
        put(sink, (const char[]){'\\', letters[special - specials]}, 2);
    else if (text_is_control(character, size))
        put_escape(sink, (unsigned char)character[size - 1]); /* the last byte of C1 in UTF-8 is its code */
    else
        put(sink, character, size);
}

static void put_string(struct sink *sink, const char *text, size_t size)
{
    put_text(sink, "\"");
    while (size > 0 && !sink_is_full(sink)) {
        size_t length = text_character_size(text, size);
        put_character(sink, text, length);
        text += length;
        size -= length;
    }
    put_text(sink, "\"");
}

static void put_base64(struct sink *sink, const char *bytes, size_t size)
{
    put_text(sink, "\"$base64\": \"");
    while (size > 0 && !sink_is_full(sink)) {
        char digits[BASE64_GROUP_DIGITS];
        size_t part = size < BASE64_GROUP_BYTES ? size : BASE64_GROUP_BYTES;
        base64_encode_group((const unsigned char *)bytes, part, digits);
        put(sink, digits, sizeof digits);
        bytes += part;
        size -= part;
    }
    put_text(sink, "\"");
}

static void put_bytes(struct sink *sink, const char *bytes, size_t size)
{
    put_text(sink, "{");
    put_base64(sink, bytes, size);
    put_text(sink, "}");
}

static void put_extension(struct sink *sink, const msgpack_object_ext *extension)
{
    char type[24];

    snprintf(type, sizeof type, "{\"$ext\": %d, ", extension->type);
    put_text(sink, type);
    put_base64(sink, extension->ptr, extension->size);
    put_text(sink, "}");
}

/* The shortest digits that read back as the same number, and always as a float. */
static void put_float(struct sink *sink, double number)
{
    char digits[40];

    if (isnan(number) || isinf(number)) {
        put_text(sink, isnan(number) ? "{\"$float\": \"nan\"}"
                       : number > 0  ? "{\"$float\": \"inf\"}"
                                     : "{\"$float\": \"-inf\"}");
        return;
    }
    for (int precision = fpclassify(number) == FP_SUBNORMAL ? 1 : 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number)
            break;
    }
    put_text(sink, digits);
    if (!strpbrk(digits, ".e"))
        put_text(sink, ".0");
}

static void put_integer(struct sink *sink, const msgpack_object *value)
{
    char digits[24];

    if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        snprintf(digits, sizeof digits, "%" PRId64, value->via.i64);
    else
        snprintf(digits, sizeof digits, "%" PRIu64, value->via.u64);
    put_text(sink, digits);
}

static void put_value(struct sink *sink, const msgpack_object *value);

/* Keys that are not text become the text of their JSON; but not within such a key, as every level of it
 * doubles its backslashes. */
static void put_key(struct sink *sink, const msgpack_object *key)
{
    if (key->type == MSGPACK_OBJECT_STR && text_is_utf8(key->via.str.ptr, key->via.str.size)) {
        put_string(sink, key->via.str.ptr, key->via.str.size);
        return;
    }
    char *json = NULL;
    size_t size = 0;
    struct sink text = {.file = sink->in_key ? NULL : open_memstream(&json, &size), .in_key = true};
    if (!text.file) {
        put_text(sink, "\"?\"");
        return;
    }
    put_value(&text, key);
    fclose(text.file);
    put_string(sink, json, size);
    free(json);
}

static void put_array(struct sink *sink, const msgpack_object_array *array)
{
    put_text(sink, "[");
    for (uint32_t i = 0; i < array->size && !sink_is_full(sink); i++) {
        if (i > 0)
            put_text(sink, ", ");
        put_value(sink, &array->ptr[i]);
    }
    put_text(sink, "]");
}

static void put_map(struct sink *sink, const msgpack_object_map *map)
{
    put_text(sink, "{");
    for (uint32_t i = 0; i < map->size && !sink_is_full(sink); i++) {
        if (i > 0)
            put_text(sink, ", ");
        put_key(sink, &map->ptr[i].key);
        put_text(sink, ": ");
        put_value(sink, &map->ptr[i].val);
    }
    put_text(sink, "}");
}

/* On one line. */
static void put_value(struct sink *sink, const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL:
        put_text(sink, "null");
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        put_text(sink, value->via.boolean ? "true" : "false");
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        put_integer(sink, value);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        put_float(sink, value->via.f64);
        break;
    case MSGPACK_OBJECT_STR:
        if (text_is_utf8(value->via.str.ptr, value->via.str.size))
            put_string(sink, value->via.str.ptr, value->via.str.size);
        else
            put_bytes(sink, value->via.str.ptr, value->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN:
        put_bytes(sink, value->via.bin.ptr, value->via.bin.size);
        break;
    case MSGPACK_OBJECT_EXT:
        put_extension(sink, &value->via.ext);
        break;
    case MSGPACK_OBJECT_ARRAY:
        put_array(sink, &value->via.array);
        break;
    case MSGPACK_OBJECT_MAP:
        put_map(sink, &value->via.map);
        break;
    }
}

static bool fits(const msgpack_object *value, size_t room)
{
    struct sink measure = {.limited = true, .limit = room};

    put_value(&measure, value);
    return measure.count <= room;
}

static void start_line(struct sink *sink, size_t indent)
{
    fprintf(sink->file, "\n%*s", (int)indent, "");
}

static void put_pretty(struct sink *sink, const msgpack_object *value, size_t column, size_t indent,
                       size_t columns);

static void put_array_lines(struct sink *sink, const msgpack_object_array *array, size_t indent,
                            size_t columns)
{
    put_text(sink, "[");
    for (uint32_t i = 0; i < array->size; i++) {
        if (i > 0)
            put_text(sink, ",");
        start_line(sink, indent + INDENT);
        put_pretty(sink, &array->ptr[i], indent + INDENT, indent + INDENT, columns);
    }
    start_line(sink, indent);
    put_text(sink, "]");
}

static void put_map_lines(struct sink *sink, const msgpack_object_map *map, size_t indent, size_t columns)
{
    put_text(sink, "{");
    for (uint32_t i = 0; i < map->size; i++) {
        if (i > 0)
            put_text(sink, ",");
        start_line(sink, indent + INDENT);
        size_t start = sink->count;
        put_key(sink, &map->ptr[i].key);
        put_text(sink, ": ");
        put_pretty(sink, &map->ptr[i].val, indent + INDENT + sink->count - start, indent + INDENT, columns);
    }
    start_line(sink, indent);
    put_text(sink, "}");
}

/* From `column` on; what follows on the line may be a comma. */
static void put_pretty(struct sink *sink, const msgpack_object *value, size_t column, size_t indent,
                       size_t columns)
{
    size_t room = columns > column ? columns - column - 1 : 0;

    if (value->type == MSGPACK_OBJECT_ARRAY && value->via.array.size > 0 && !fits(value, room))
        put_array_lines(sink, &value->via.array, indent, columns);
    else if (value->type == MSGPACK_OBJECT_MAP && value->via.map.size > 0 && !fits(value, room))
        put_map_lines(sink, &value->via.map, indent, columns);
    else
        put_value(sink, value);
}

void json_print(FILE *out, const msgpack_object *value)
{
    struct sink sink = {.file = out};
    size_t columns = text_columns(out);

    if (columns > 0)
        put_pretty(&sink, value, 0, 0, columns);
    else
        put_value(&sink, value);
    fputc('\n', out);
}

void json_print_packed(FILE *out, const msgpack_sbuffer *buffer)
{
    msgpack_unpacked tree;

    msgpack_unpacked_init(&tree);
    if (msgpack_unpack_next(&tree, buffer->data, buffer->size, NULL) != MSGPACK_UNPACK_SUCCESS) {
        fputs("cohab: out of memory\n", stderr);
        exit(CLI_CALL_FAILED);
    }
    json_print(out, &tree.data);
    msgpack_unpacked_destroy(&tree);
}

bool json_print_cut(FILE *out, const msgpack_object *value, size_t limit)
{
    struct sink sink = {.file = out, .limited = true, .limit = limit};

    put_value(&sink, value);
    if (sink_is_full(&sink))
        fputs("...", out);
    fputc('\n', out);
    return sink_is_full(&sink);
}
