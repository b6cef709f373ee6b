/* What a process of the server's printed last, line by line, on standard error. */
#ifndef OUTPUT_LINES_H
#define OUTPUT_LINES_H

#include <msgpack.h>

/* output: a text; NULL or empty: nothing is printed. */
void output_lines_print(const msgpack_object *output);

#endif
