#include "crash_place.h"

#include <string.h>

#include "object.h"

const msgpack_object *crash_place_text(const msgpack_object *frame)
{
    return frame->type == MSGPACK_OBJECT_STR ? frame : object_find_text(frame, "text");
}

const msgpack_object *crash_place_find(const msgpack_object *stack, const msgpack_object *top)
{
    uint64_t index = top && top->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? top->via.u64 : 0;

    if (!stack || stack->via.array.size == 0)
        return NULL;
    return crash_place_text(&stack->via.array.ptr[index < stack->via.array.size ? index : 0]);
}

/* Where the last `mark` begins, searched from the end backwards; size where there is none. */
static size_t find_last(const char *text, size_t size, const char *mark)
{
    size_t length = strlen(mark);

    for (size_t at = size; at-- > 0;)
        if (size - at >= length && memcmp(text + at, mark, length) == 0)
            return at;
    return size;
}

/* Bytes of "module!function" in "module!function+0x1f (file.c:7)". */
static size_t measure_place(const msgpack_object *text)
{
    const char *bytes = text->via.str.ptr;
    size_t size = text->via.str.size;

    if (size == 0 || !memchr(bytes, '!', size))
        return size;
    size_t offset = find_last(bytes, size, "+0x");
    return offset < size ? offset : find_last(bytes, size, " (");
}

bool crash_place_equal(const msgpack_object *a, const msgpack_object *b)
{
    size_t size = measure_place(a);

    return size == measure_place(b) && memcmp(a->via.str.ptr, b->via.str.ptr, size) == 0;
}
