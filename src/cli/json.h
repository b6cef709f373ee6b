/* JSON to msgpack (json_read.c) and back (json_print.c). What JSON lacks travels as a map with reserved keys,
 * in both directions:
 *
 *   bytes, and text that is not UTF-8   {"$base64": "aGVsbG8="}
 *   floats that are no numbers          {"$float": "nan"}, "inf", "-inf"
 *   extension types                     {"$ext": 5, "$base64": "aGVsbG8="}
 *   keys of maps that are not text      their JSON text (one way) */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <msgpack.h>

/* Prints a value and a line end: on one line, or, where that is longer than the terminal is wide, with
 * indented lists and maps. Controls in text are escaped, so that they do nothing to a terminal. */
void json_print(FILE *out, const msgpack_object *value);

/* Prints a value that was packed. Ends the process when memory is out. */
void json_print_packed(FILE *out, const msgpack_sbuffer *buffer);

/* Prints as much of a value as goes into that many bytes, on one line. Returns whether something is left out.
 */
bool json_print_cut(FILE *out, const msgpack_object *value, size_t limit);

/* Packs text as the JSON value that it is or, where it is not JSON, as a string. Returns 0, or -1 with one
 * line in why: it is JSON, but cannot be sent. */
int json_pack_argument(msgpack_packer *packer, const char *text, char *why, size_t why_size);

/* Packs the one JSON array that a file holds. Returns 0, or -1 with one line in why. */
int json_pack_array(msgpack_packer *packer, FILE *file, char *why, size_t why_size);

#endif
