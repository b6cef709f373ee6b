/* PURE. The types in signatures: what they accept, how they are written, and why something does not fit. */
#ifndef TYPE_H
#define TYPE_H

#include <stdbool.h>

#include <msgpack.h>

#include "text.h"

/* Brackets inside one another in a type, which bounds every recursion over types. */
#define TYPE_MAX_DEPTH 16

enum type_kind {
    TYPE_NONE,
    TYPE_BOOL,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_STR,
    TYPE_BYTES,
    TYPE_ANY,
    TYPE_LIST,
    TYPE_DICT,
    TYPE_ARRAY,
    TYPE_KINDS
};

/* By kind. */
extern const struct type_traits {
    const char *name;
    unsigned plain;     /* set of object types that fit whatever is in them */
    unsigned container; /* the object type that fits if what is in it does */
    unsigned items;     /* types in brackets */
} type_traits[TYPE_KINDS];

/* A union is the list of its alternatives, any other type a list of one. */
struct type {
    enum type_kind kind;
    unsigned plain;     /* in the first alternative: what fits any of them whatever is in it */
    struct type *item;  /* elements of a list or an array, keys of a dict */
    struct type *value; /* values of a dict */
    struct type *next;
};

void type_free(struct type *type);
/* As Python writes it. */
void type_write(struct text *text, const struct type *type);
bool type_accepts(const struct type *type, const msgpack_object *object);
/* For an object that is not accepted: "[3]: expected str, got bytes", to be read behind the name of the
 * object. */
void type_explain(struct text *text, const struct type *type, const msgpack_object *object);
/* "None", "bool", "int", "float", "str", "bytes", "list", "dict", "ext". */
const char *type_name_of(const msgpack_object *object);

#endif
