#include "object.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "text.h"

bool object_is_text(const msgpack_object *object, const char *text)
{
    return object && object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

const msgpack_object *object_find(const msgpack_object *map, const char *key)
{
    if (!map || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (object_is_text(&pair->key, key))
            return pair->val.type == MSGPACK_OBJECT_NIL ? NULL : &pair->val;
    }
    return NULL;
}

static const msgpack_object *find_type(const msgpack_object *map, const char *key, msgpack_object_type type)
{
    const msgpack_object *value = object_find(map, key);

    return value && value->type == type ? value : NULL;
}

const msgpack_object *object_find_text(const msgpack_object *map, const char *key)
{
    return find_type(map, key, MSGPACK_OBJECT_STR);
}

const msgpack_object *object_find_array(const msgpack_object *map, const char *key)
{
    return find_type(map, key, MSGPACK_OBJECT_ARRAY);
}

bool object_find_number(const msgpack_object *map, const char *key, double *number)
{
    const msgpack_object *value = object_find(map, key);

    switch (value ? value->type : MSGPACK_OBJECT_NIL) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        *number = (double)value->via.u64;
        return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        *number = (double)value->via.i64;
        return true;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        *number = value->via.f64;
        return true;
    default:
        return false;
    }
}

void object_put(FILE *out, const msgpack_object *map, const char *key)
{
    const msgpack_object *value = object_find(map, key);

    switch (value ? value->type : MSGPACK_OBJECT_NIL) {
    case MSGPACK_OBJECT_STR:
        text_put_safe(out, value->via.str.ptr, value->via.str.size);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        fprintf(out, "%" PRIu64, value->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        fprintf(out, "%" PRId64, value->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        fprintf(out, "%g", value->via.f64);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        fputs(value->via.boolean ? "yes" : "no", out);
        break;
    default:
        fputc('-', out);
    }
}

void object_put_seconds(FILE *out, const msgpack_object *map, const char *key)
{
    double seconds = -1;

    object_find_number(map, key, &seconds);
    text_put_seconds(out, seconds);
}

static int append_or_exit(void *buffer, const char *bytes, size_t size)
{
    if (msgpack_sbuffer_write(buffer, bytes, size) < 0) {
        fputs("cohab: out of memory\n", stderr);
        exit(CLI_CALL_FAILED);
    }
    return 0;
}

void object_packer_init(msgpack_packer *packer, msgpack_sbuffer *buffer)
{
    msgpack_packer_init(packer, buffer, append_or_exit);
}

void object_pack_text(msgpack_packer *packer, const char *text, size_t size)
{
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}
