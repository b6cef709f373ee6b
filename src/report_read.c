#include "report_read.h"

#include <stdint.h>
#include <string.h>

#include "check.h"
#include "frame.h"

/* Containers of a report inside one another: the map, its stack, a frame of that, and some to spare. */
#define MAX_DEPTH 8

/* A value as it stands in the file. */
struct value {
    const unsigned char *at; /* NULL: there is none */
    size_t size;
};

static uint64_t big_endian(const unsigned char *bytes, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* Reads a map's header; *header: its size in bytes. The value is known to be whole. */
static bool read_map(struct value map, size_t *header, uint64_t *count)
{
    unsigned char tag = map.at[0];
    if ((tag & 0xf0) == 0x80) {
        *header = 1;
        *count = tag & 0x0f;
        return true;
    }
    if (tag != 0xde && tag != 0xdf)
        return false;
    *header = tag == 0xde ? 3 : 5;
    *count = big_endian(map.at + 1, *header - 1);
    return true;
}

/* Keys in msgpack's short form, which every writer of reports uses for these. */
static bool is_key(struct value value, const char *key)
{
    size_t length = strlen(key);
    return value.size == length + 1 && value.at[0] == (0xa0 | length) &&
           memcmp(value.at + 1, key, length) == 0;
}

static struct value take(struct value *rest)
{
    struct value taken = {.at = rest->at};
    if (check_value(rest->at, rest->size, MAX_DEPTH, &taken.size) != CHECK_OK)
        return (struct value){0};
    rest->at += taken.size;
    rest->size -= taken.size;
    return taken;
}

/* The value of a key in a map that is known to be whole. */
static struct value find(struct value map, const char *key)
{
    size_t header = 0;
    uint64_t count = 0;
    if (!map.at || !read_map(map, &header, &count))
        return (struct value){0};
    struct value rest = {.at = map.at + header, .size = map.size - header};
    while (count-- > 0) {
        struct value name = take(&rest);
        struct value found = take(&rest);
        if (name.at && is_key(name, key))
            return found;
    }
    return (struct value){0};
}

/* Points at what a bin holds. */
static void find_frame(struct report *report, struct value map)
{
    size_t header = 0;
    uint64_t count = 0;
    struct value request = find(map, "request"), bin = find(request, "frame");
    report->has_request = request.at && read_map(request, &header, &count);
    if (!bin.at || bin.at[0] < 0xc4 || bin.at[0] > 0xc6)
        return;
    header = 1 + ((size_t)1 << (bin.at[0] - 0xc4));
    report->frame = bin.at + header;
    report->frame_size = bin.size - header;
}

static enum report_result check_version(struct value map)
{
    struct value version = find(map, "version");
    if (version.size != 1 || version.at[0] == 0 || version.at[0] > 0x7f)
        return REPORT_FOREIGN;
    return version.at[0] == REPORT_VERSION ? REPORT_OK : REPORT_NEWER;
}

static enum report_result unpack(struct report *report, struct value map)
{
    size_t offset = 0;
    if (!msgpack_zone_init(&report->zone, MSGPACK_ZONE_CHUNK_SIZE))
        return REPORT_NO_MEMORY;
    msgpack_unpack_return unpacked =
        msgpack_unpack((const char *)map.at, map.size, &offset, &report->zone, &report->root);
    if (unpacked == MSGPACK_UNPACK_SUCCESS && report->root.type == MSGPACK_OBJECT_MAP)
        return REPORT_OK;
    msgpack_zone_destroy(&report->zone);
    return unpacked == MSGPACK_UNPACK_NOMEM_ERROR ? REPORT_NO_MEMORY : REPORT_FOREIGN;
}

enum report_result report_open(struct report *report, const unsigned char *bytes, size_t size)
{
    struct value map = {.at = bytes};
    *report = (struct report){.root.type = MSGPACK_OBJECT_NIL};
    if (check_value(bytes, size, MAX_DEPTH, &map.size) != CHECK_OK || map.size != size)
        return REPORT_FOREIGN;
    enum report_result version = check_version(map);
    if (version != REPORT_OK)
        return version;
    find_frame(report, map);
    if (size - report->frame_size > REPORT_REST_MAX)
        return REPORT_TOO_LARGE;
    return unpack(report, map);
}

void report_close(struct report *report)
{
    msgpack_zone_destroy(&report->zone);
}

const char *report_explain(enum report_result result)
{
    switch (result) {
    case REPORT_OK:
        break;
    case REPORT_FOREIGN:
        return "it is no whole crash report";
    case REPORT_NEWER:
        return "its format is one that this version does not know";
    case REPORT_TOO_LARGE:
        return "it is larger than any crash report";
    case REPORT_NO_MEMORY:
        return "there is not enough memory for it";
    }
    return "";
}

bool report_read_request(const struct report *report, struct envelope_request *request, const char **why)
{
    *why = report->has_request ? "the report holds no parameters: the server ran with --crash-params off, or "
                                 "nothing whole had come"
                               : "the report holds no request";
    if (!report->frame)
        return false;
    *why = "the request in the report is not whole";
    if (report->frame_size < FRAME_HEADER_SIZE ||
        report->frame_size - FRAME_HEADER_SIZE != frame_get_length(report->frame))
        return false;
    return envelope_read_request(report->frame + FRAME_HEADER_SIZE, report->frame_size - FRAME_HEADER_SIZE,
                                 request, why) == ENVELOPE_OK;
}
