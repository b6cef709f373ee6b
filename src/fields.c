#include "fields.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "pack.h"

/* --- writing --- */

static uint64_t load(const struct field *field, const void *place)
{
    uint16_t small;
    uint32_t middle;
    uint64_t large = 0;
    switch (field->size) {
    case sizeof(small):
        memcpy(&small, place, sizeof(small));
        return small;
    case sizeof(middle):
        memcpy(&middle, place, sizeof(middle));
        return middle;
    default:
        memcpy(&large, place, sizeof(large));
        return large;
    }
}

static int write_words(const struct field *field, const void *place, msgpack_packer *packer)
{
    const uint64_t *words = place;
    size_t count = field->size / sizeof(*words);
    int result = msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count && result == 0; i++)
        result = msgpack_pack_uint64(packer, words[i]);
    return result;
}

static int write_value(const struct field *field, const void *object, msgpack_packer *packer)
{
    const void *place = (const char *)object + field->offset;
    int number;
    size_t used;
    switch (field->kind) {
    case FIELD_UNSIGNED:
        return msgpack_pack_uint64(packer, load(field, place));
    case FIELD_SIGNED:
        memcpy(&number, place, sizeof(number));
        return msgpack_pack_int(packer, number);
    case FIELD_BOOL:
        return *(const bool *)place ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
    case FIELD_TEXT:
        return pack_text(packer, place);
    case FIELD_BYTES:
        memcpy(&used, (const char *)object + field->used, sizeof(used));
        return msgpack_pack_bin_with_body(packer, place, used);
    case FIELD_WORDS:
        return write_words(field, place, packer);
    }
    return -1;
}

int fields_write(const struct field *fields, size_t count, const void *object, msgpack_packer *packer)
{
    int result = msgpack_pack_map(packer, count);
    for (size_t i = 0; i < count && result == 0; i++) {
        result = pack_text(packer, fields[i].name);
        if (result == 0)
            result = write_value(&fields[i], object, packer);
    }
    return result;
}

/* --- reading --- */

const msgpack_object *fields_find(const msgpack_object *map, const char *key)
{
    size_t length = strlen(key);
    if (!map || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *entry = &map->via.map.ptr[i];
        if (entry->key.type == MSGPACK_OBJECT_STR && entry->key.via.str.size == length &&
            memcmp(entry->key.via.str.ptr, key, length) == 0)
            return &entry->val;
    }
    return NULL;
}

static int read_unsigned(const struct field *field, const msgpack_object *value, void *place)
{
    uint64_t room = field->size >= sizeof(uint64_t) ? UINT64_MAX : (UINT64_C(1) << (8 * field->size)) - 1;
    uint64_t most = field->most ? field->most : room;
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 > most)
        return -1;
    uint16_t small = (uint16_t)value->via.u64;
    uint32_t middle = (uint32_t)value->via.u64;
    const void *from = field->size == sizeof(small)    ? (const void *)&small
                       : field->size == sizeof(middle) ? (const void *)&middle
                                                       : (const void *)&value->via.u64;
    memcpy(place, from, field->size);
    return 0;
}

static int read_signed(const struct field *field, const msgpack_object *value, void *place)
{
    uint64_t most = field->most ? field->most : INT_MAX;
    int number = -1;
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= most)
        number = (int)value->via.u64;
    else if (value->type != MSGPACK_OBJECT_NEGATIVE_INTEGER || value->via.i64 != -1)
        return -1;
    memcpy(place, &number, sizeof(number));
    return 0;
}

static int read_text(const struct field *field, const msgpack_object *value, char *place)
{
    const msgpack_object_str *text = &value->via.str;
    if (value->type != MSGPACK_OBJECT_STR || text->size >= field->size || memchr(text->ptr, '\0', text->size))
        return -1;
    memcpy(place, text->ptr, text->size);
    place[text->size] = '\0';
    return 0;
}

static int read_bytes(const struct field *field, const msgpack_object *value, char *place, void *used)
{
    size_t most = field->most ? field->most : field->size, size = value->via.bin.size;
    if (value->type != MSGPACK_OBJECT_BIN || size > most)
        return -1;
    memcpy(place, value->via.bin.ptr, size);
    memcpy(used, &size, sizeof(size));
    return 0;
}

static int read_words(const struct field *field, const msgpack_object *value, uint64_t *words)
{
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size > field->size / sizeof(*words))
        return -1;
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        const msgpack_object *word = &value->via.array.ptr[i];
        if (word->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            return -1;
        words[i] = word->via.u64;
    }
    return 0;
}

static int read_value(const struct field *field, const msgpack_object *value, void *object)
{
    char *place = (char *)object + field->offset;
    switch (field->kind) {
    case FIELD_UNSIGNED:
        return read_unsigned(field, value, place);
    case FIELD_SIGNED:
        return read_signed(field, value, place);
    case FIELD_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return -1;
        *(bool *)(void *)place = value->via.boolean;
        return 0;
    case FIELD_TEXT:
        return read_text(field, value, place);
    case FIELD_BYTES:
        return read_bytes(field, value, place, (char *)object + field->used);
    case FIELD_WORDS:
        return read_words(field, value, (uint64_t *)(void *)place);
    }
    return -1;
}

int fields_read(const struct field *fields, size_t count, const msgpack_object *map, void *object, char *why,
                size_t size)
{
    for (size_t i = 0; i < count; i++) {
        const msgpack_object *value = fields_find(map, fields[i].name);
        if (!value && fields[i].optional)
            continue;
        if (value && read_value(&fields[i], value, object) == 0)
            continue;
        snprintf(why, size, "%s is %s", fields[i].name, value ? "not sound" : "missing");
        return -1;
    }
    return 0;
}
