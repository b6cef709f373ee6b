/* Reads msgpack maps that somebody else made: what is absent or of another type is never an error, only
 * not there. */
#ifndef OBJECT_H
#define OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <msgpack.h>

/* The value of key; NULL where map is NULL or no map, or has no such key, or nil there. */
const msgpack_object *object_find(const msgpack_object *map, const char *key);
/* The same for values of one type. */
const msgpack_object *object_find_text(const msgpack_object *map, const char *key);
const msgpack_object *object_find_array(const msgpack_object *map, const char *key);
bool object_find_number(const msgpack_object *map, const char *key, double *number);

bool object_is_text(const msgpack_object *object, const char *text);

/* Writes the value of key for people: text, number or bool on one line, "-" for the rest. */
void object_put(FILE *out, const msgpack_object *map, const char *key);
/* The same for a number of seconds. */
void object_put_seconds(FILE *out, const msgpack_object *map, const char *key);

/* Packs into buffer. Ends the process when memory is out, so that no half value is ever sent. */
void object_packer_init(msgpack_packer *packer, msgpack_sbuffer *buffer);
void object_pack_text(msgpack_packer *packer, const char *text, size_t size);

#endif
