/* PURE. C structs as msgpack maps, by tables of their fields. What is read is checked against the table: a
 * field that is absent, of another type, or too large for its place has the whole refused; one that the table
 * does not know is left out. */
#ifndef FIELDS_H
#define FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <msgpack.h>

enum field_kind {
    FIELD_UNSIGNED, /* unsigned integers of 2, 4 or 8 bytes, and enums */
    FIELD_SIGNED,   /* int, pid_t: -1 is the least */
    FIELD_BOOL,
    FIELD_TEXT,  /* char array, terminated */
    FIELD_BYTES, /* char array, of which as much is used as a size_t beside it says */
    FIELD_WORDS, /* array of uint64_t; where fewer come, the others stay as they are */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset, size;
    uint64_t most; /* of numbers, and of bytes: the largest that is sound; 0: what has room */
    size_t used;   /* FIELD_BYTES: offset of the size_t */
    bool optional; /* what is absent stays as it is: for fields that older versions do not know */
};

#define FIELD(type, member, kind_, ...)                                                                      \
    {                                                                                                        \
        .name = #member, .kind = (kind_), .offset = offsetof(type, member),                                  \
        .size = sizeof(((type *)0)->member), __VA_ARGS__                                                     \
    }

/* As one map. -1 without memory. */
int fields_write(const struct field *fields, size_t count, const void *object, msgpack_packer *packer);
/* -1, with the field to blame in why, where the map is none of that table. The object may be changed then. */
int fields_read(const struct field *fields, size_t count, const msgpack_object *map, void *object, char *why,
                size_t size);
/* The value of a key; NULL where there is none, or no map. */
const msgpack_object *fields_find(const msgpack_object *map, const char *key);

#endif
