#include "crash_place.h"

#include <string.h>

#include "object.h"

static bool begins_with(const msgpack_object *text, const char *beginning)
{
    size_t length = strlen(beginning);

    return text->via.str.size >= length && memcmp(text->via.str.ptr, beginning, length) == 0;
}

static bool is_in_runtime(const msgpack_object *text)
{
    static const char *const modules[] = {"libc.so",    "libc-",     "libpthread",   "ld-linux",
                                          "libstdc++.", "libgcc_s.", "linux-vdso",   "[vdso]",
                                          "libasan.",   "libubsan.", "libc++abi.so", "libc++.so"};

    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
        if (begins_with(text, modules[i]))
            return true;
    return false;
}

const msgpack_object *crash_place_text(const msgpack_object *frame)
{
    return frame->type == MSGPACK_OBJECT_STR ? frame : object_find_text(frame, "text");
}

const msgpack_object *crash_place_find(const msgpack_object *stack)
{
    const msgpack_object *innermost = NULL;

    for (uint32_t i = 0; stack && i < stack->via.array.size; i++) {
        const msgpack_object *text = crash_place_text(&stack->via.array.ptr[i]);
        if (text && !is_in_runtime(text))
            return text;
        if (!innermost)
            innermost = text;
    }
    return innermost;
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
