#include "frames.h"

#include <inttypes.h>

#include "crash_place.h"
#include "object.h"
#include "text.h"

static void put_frame(FILE *out, const msgpack_object *frame)
{
    const msgpack_object *text = crash_place_text(frame);

    if (text)
        text_put_safe(out, text->via.str.ptr, text->via.str.size);
    else
        object_put(out, frame, "address");
}

void frames_put(FILE *out, const char *indent, const msgpack_object *frames)
{
    for (uint32_t i = 0; i < frames->via.array.size; i++) {
        fprintf(out, "%s#%" PRIu32 " ", indent, i);
        put_frame(out, &frames->via.array.ptr[i]);
        fputc('\n', out);
    }
}

void frames_put_absence(FILE *out, const msgpack_object *map)
{
    fputs("no stack", out);
    if (object_find_text(map, "no_stack")) {
        fputs(": ", out);
        object_put(out, map, "no_stack");
    }
    fputc('\n', out);
}
