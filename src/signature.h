/* PURE. Method signatures in Python's annotation syntax: parsed once when the engine is loaded, then every
 * call's parameters are checked against them.
 *
 *   signature  = name "(" [ parameter { "," parameter } ] ")" "->" type
 *   parameter  = name ":" type [ "=" literal ]        once one has a default, all that follow need one
 *   type       = primary { "|" primary }
 *   primary    = "None" | "bool" | "int" | "float" | "str" | "bytes" | "Any"
 *              | "list" "[" type "]" | "dict" "[" type "," type "]" | "array" "[" ( "float" | "int" ) "]"
 *   literal    = "None" | "True" | "False" | int | float | string in '' or "" | "[]" | "{}"
 *
 * A name is an ASCII identifier; a method's may be several, joined by dots; a parameter's is not one of
 * Python's keywords. Types nest at most 16 deep. As in Python's typing, an int is accepted where a float is
 * expected; a bool is not accepted where an int is. A literal must fit its parameter's type. */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>

#include <msgpack.h>

/* Immutable once parsed; owned by whoever parsed it. */
struct signature;

/* Parses text, which must name the method `name`. NULL on error, with one line in error that shows what is
 * wrong and where (also for lack of memory). */
struct signature *signature_parse(const char *text, const char *name, char *error, size_t error_size);
void signature_free(struct signature *signature);

/* Parameters that may be given, and those without a default. */
size_t signature_max_params(const struct signature *signature);
size_t signature_min_params(const struct signature *signature);
/* The name of parameter `index`; "?" outside the signature. Lives as long as the signature. */
const char *signature_param_name(const struct signature *signature, size_t index);

/* Whether params fit in number, and in number and types. If not, error gets one line for the caller, for
 * example: suggest() takes 1 to 2 arguments, 3 were given suggest(): argument 2 'limit': expected int, got
 * str check_all(): argument 1 'words'[3]: expected str, got bytes */
bool signature_check_count(const struct signature *signature, size_t count, char *error, size_t error_size);
bool signature_check(const struct signature *signature, const msgpack_object_array *params, char *error,
                     size_t error_size);

/* "None", "bool", "int", "float", "str", "bytes", "list", "dict", "ext": how error texts name what came. */
const char *signature_type_name(const msgpack_object *object);

#endif
