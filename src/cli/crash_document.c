#include "crash_document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "object.h"

bool crash_document_params(struct report *report, msgpack_object *params, const char **why)
{
    struct envelope_request request;
    size_t offset = 0;

    if (!report_read_request(report, &request, why))
        return false;
    *why = "there is not enough memory for the parameters";
    return msgpack_unpack((const char *)request.params, request.params_size, &offset, &report->zone,
                          params) == MSGPACK_UNPACK_SUCCESS;
}

static msgpack_object text_object(const char *text)
{
    return (msgpack_object){.type = MSGPACK_OBJECT_STR,
                            .via.str = {.ptr = text, .size = (uint32_t)strlen(text)}};
}

/* A map of its own with the same pairs, and room for one more. */
static msgpack_object copy_map(struct report *report, const msgpack_object *map)
{
    msgpack_object copy = *map;
    size_t size = map->via.map.size;

    copy.via.map.ptr = msgpack_zone_malloc(&report->zone, (size + 1) * sizeof(msgpack_object_kv));
    if (!copy.via.map.ptr) {
        fputs("cohab: out of memory\n", stderr);
        exit(CLI_CALL_FAILED);
    }
    if (size > 0)
        memcpy(copy.via.map.ptr, map->via.map.ptr, size * sizeof(msgpack_object_kv));
    return copy;
}

/* Where it is there. */
static void replace(msgpack_object *map, const char *key, const msgpack_object *value)
{
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (object_is_text(&map->via.map.ptr[i].key, key))
            map->via.map.ptr[i].val = *value;
}

static msgpack_object make_request(struct report *report, const msgpack_object *map, bool frame)
{
    const msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};
    msgpack_object request = copy_map(report, map), params;
    const char *why;

    if (!crash_document_params(report, &params, &why))
        params = nil;
    if (!frame)
        replace(&request, "frame", &nil);
    request.via.map.ptr[request.via.map.size++] =
        (msgpack_object_kv){.key = text_object("params"), .val = params};
    return request;
}

msgpack_object crash_document_make(struct report *report, bool frame)
{
    msgpack_object document = copy_map(report, &report->root);
    const msgpack_object *map = object_find(&document, "request");

    if (map && map->type == MSGPACK_OBJECT_MAP) {
        msgpack_object request = make_request(report, map, frame);
        replace(&document, "request", &request);
    }
    return document;
}
