/* PURE. What cohab_parse() and cohab_return() of <cohab/engine.h> do, without the call around it: the format
 * strings are documented there. */
#ifndef ARGS_H
#define ARGS_H

#include <stdarg.h>
#include <stddef.h>

#include <msgpack.h>

#include "signature.h"

enum args_result {
    ARGS_OK,
    ARGS_BAD_ARGUMENT, /* the caller's fault: error holds a line for the caller */
    ARGS_BAD_FORMAT,   /* the engine's fault: error says what is wrong with the format */
    ARGS_NO_MEMORY,    /* allocate() had none, or the packer's write function refused */
};

/* Memory for copies that lives as long as the call; NULL when there is none. */
struct args_arena {
    void *(*allocate)(void *context, size_t size);
    void *context;
};

/* signature gives the names for error texts and may be NULL ("argument 2" instead of "argument 2 'limit'").
 * Error texts look like those of signature_check(), without the method's name in front: argument 2 'limit':
 * expected int from -2147483648 to 2147483647, got 3000000000 */
enum args_result args_parse(const struct signature *signature, const msgpack_object_array *params,
                            const struct args_arena *arena, char *error, size_t error_size,
                            const char *format, va_list arguments);

enum args_result args_build(msgpack_packer *packer, char *error, size_t error_size, const char *format,
                            va_list arguments);

#endif
