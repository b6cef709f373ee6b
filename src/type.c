#include "type.h"

#include <stdint.h>
#include <stdlib.h>

/* Bytes of a key that an error text shows. */
#define SHOWN_KEY 32

#define OBJECT(type)   (1u << MSGPACK_OBJECT_##type)
#define OBJECT_INTS    (OBJECT(POSITIVE_INTEGER) | OBJECT(NEGATIVE_INTEGER))
#define OBJECT_NUMBERS (OBJECT_INTS | OBJECT(FLOAT32) | OBJECT(FLOAT64))

const struct type_traits type_traits[TYPE_KINDS] = {
    [TYPE_NONE] = {"None", OBJECT(NIL), 0, 0}, [TYPE_BOOL] = {"bool", OBJECT(BOOLEAN), 0, 0},
    [TYPE_INT] = {"int", OBJECT_INTS, 0, 0},   [TYPE_FLOAT] = {"float", OBJECT_NUMBERS, 0, 0},
    [TYPE_STR] = {"str", OBJECT(STR), 0, 0},   [TYPE_BYTES] = {"bytes", OBJECT(BIN), 0, 0},
    [TYPE_ANY] = {"Any", ~0u, 0, 0},           [TYPE_LIST] = {"list", 0, OBJECT(ARRAY), 1},
    [TYPE_DICT] = {"dict", 0, OBJECT(MAP), 2}, [TYPE_ARRAY] = {"array", 0, OBJECT(ARRAY), 1},
};

void type_free(struct type *type)
{
    while (type != NULL) {
        struct type *next = type->next;
        type_free(type->item);
        type_free(type->value);
        free(type);
        type = next;
    }
}

void type_write(struct text *text, const struct type *type)
{
    for (; type != NULL; type = type->next) {
        text_add(text, "%s", type_traits[type->kind].name);
        if (type->item != NULL) {
            text_add(text, "[");
            type_write(text, type->item);
            if (type->value != NULL) {
                text_add(text, ", ");
                type_write(text, type->value);
            }
            text_add(text, "]");
        }
        if (type->next != NULL)
            text_add(text, " | ");
    }
}

static bool content_accepted(const struct type *type, const msgpack_object *object);

static inline bool accepts(const struct type *type, const msgpack_object *object)
{
    return (type->plain & 1u << object->type) != 0 || content_accepted(type, object);
}

bool type_accepts(const struct type *type, const msgpack_object *object)
{
    return accepts(type, object);
}

/* One alternative; `object` is an array or a map, as it says. */
static bool content_fits(const struct type *type, const msgpack_object *object)
{
    if (object->type == MSGPACK_OBJECT_ARRAY) {
        for (size_t i = 0; i < object->via.array.size; i++)
            if (!accepts(type->item, &object->via.array.ptr[i]))
                return false;
        return true;
    }
    for (size_t i = 0; i < object->via.map.size; i++) {
        const msgpack_object_kv *pair = &object->via.map.ptr[i];
        if (!accepts(type->item, &pair->key) || !accepts(type->value, &pair->val))
            return false;
    }
    return true;
}

static bool content_accepted(const struct type *type, const msgpack_object *object)
{
    for (; type != NULL; type = type->next)
        if (type_traits[type->kind].container == 1u << object->type && content_fits(type, object))
            return true;
    return false;
}

const char *type_name_of(const msgpack_object *object)
{
    static const char *const names[] = {
        [MSGPACK_OBJECT_NIL] = "None",
        [MSGPACK_OBJECT_BOOLEAN] = "bool",
        [MSGPACK_OBJECT_POSITIVE_INTEGER] = "int",
        [MSGPACK_OBJECT_NEGATIVE_INTEGER] = "int",
        [MSGPACK_OBJECT_FLOAT32] = "float",
        [MSGPACK_OBJECT_FLOAT64] = "float",
        [MSGPACK_OBJECT_STR] = "str",
        [MSGPACK_OBJECT_ARRAY] = "list",
        [MSGPACK_OBJECT_MAP] = "dict",
        [MSGPACK_OBJECT_BIN] = "bytes",
        [MSGPACK_OBJECT_EXT] = "ext",
    };
    return names[object->type];
}

/* How to get from an argument to a value inside it: one step for each container, the outermost last. */
struct path {
    const struct path *outer;
    size_t index;              /* in a list */
    const msgpack_object *key; /* in a dict, otherwise NULL */
    bool to_key;               /* the key itself is meant, not its value */
};

static void key_write(struct text *text, const msgpack_object *key)
{
    switch (key->type) {
    case MSGPACK_OBJECT_STR:
    case MSGPACK_OBJECT_BIN: {
        uint32_t size = key->type == MSGPACK_OBJECT_STR ? key->via.str.size : key->via.bin.size;
        const char *bytes = key->type == MSGPACK_OBJECT_STR ? key->via.str.ptr : key->via.bin.ptr;
        text_add(text, "%s'%.*s%s'", key->type == MSGPACK_OBJECT_BIN ? "b" : "",
                 size < SHOWN_KEY ? (int)size : SHOWN_KEY, bytes, size > SHOWN_KEY ? "..." : "");
        break;
    }
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        text_add(text, "%ju", (uintmax_t)key->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        text_add(text, "%jd", (intmax_t)key->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        text_add(text, "%.17g", key->via.f64);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        text_add(text, key->via.boolean ? "True" : "False");
        break;
    default:
        text_add(text, "%s", type_name_of(key));
    }
}

static void path_write(struct text *text, const struct path *path)
{
    if (path == NULL)
        return;
    path_write(text, path->outer);
    if (path->key == NULL) {
        text_add(text, "[%zu]", path->index);
        return;
    }
    text_add(text, path->to_key ? " key " : "[");
    key_write(text, path->key);
    if (!path->to_key)
        text_add(text, "]");
}

/* The one alternative whose content is to blame; NULL if there is none or a choice. */
static const struct type *blamed(const struct type *type, const msgpack_object *object)
{
    const struct type *found = NULL;
    for (; type != NULL; type = type->next) {
        if (type_traits[type->kind].container != 1u << object->type)
            continue;
        if (found != NULL)
            return NULL;
        found = type;
    }
    return found;
}

/* Finds the first thing in object that type does not accept; false if there is none. */
static bool find_misfit(const struct type *type, const msgpack_object *object, struct path *step,
                        const struct type **wanted, const msgpack_object **found)
{
    if (object->type == MSGPACK_OBJECT_ARRAY) {
        *wanted = type->item;
        for (step->index = 0; step->index < object->via.array.size; step->index++) {
            *found = &object->via.array.ptr[step->index];
            if (!accepts(*wanted, *found))
                return true;
        }
        return false;
    }
    for (size_t i = 0; i < object->via.map.size; i++) {
        const msgpack_object_kv *pair = &object->via.map.ptr[i];
        step->key = &pair->key;
        step->to_key = !accepts(type->item, &pair->key);
        *wanted = step->to_key ? type->item : type->value;
        *found = step->to_key ? &pair->key : &pair->val;
        if (step->to_key || !accepts(*wanted, *found))
            return true;
    }
    return false;
}

/* type does not accept object. */
static void explain(struct text *text, const struct type *type, const msgpack_object *object,
                    const struct path *path)
{
    struct path step = {.outer = path};
    const struct type *wanted, *container = blamed(type, object);
    const msgpack_object *found;
    if (container != NULL && find_misfit(container, object, &step, &wanted, &found)) {
        explain(text, wanted, found, &step);
        return;
    }
    path_write(text, path);
    text_add(text, ": expected ");
    type_write(text, type);
    text_add(text, ", got %s", type_name_of(object));
}

void type_explain(struct text *text, const struct type *type, const msgpack_object *object)
{
    explain(text, type, object, NULL);
}
