#include "output_lines.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

void output_lines_print(const msgpack_object *output)
{
    if (!output || output->via.str.size == 0)
        return;
    fputs("what it printed last:\n", stderr);
    for (uint32_t at = 0; at < output->via.str.size;) {
        const char *line = output->via.str.ptr + at;
        const char *end = memchr(line, '\n', output->via.str.size - at);
        size_t length = end ? (size_t)(end - line) : output->via.str.size - at;
        fputs("  ", stderr);
        text_put_safe(stderr, line, length);
        fputc('\n', stderr);
        at += (uint32_t)length + 1;
    }
}
