#include "envelope.h"

#include <math.h>
#include <string.h>

#include <msgpack.h>

#include "check.h"
#include "pack.h"
#include "utf8.h"

/* --- reading --- */

struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static uint64_t big_endian(const unsigned char *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Takes `size` bytes; NULL where there are fewer. */
static const unsigned char *cursor_take(struct cursor *cursor, size_t size)
{
    if ((size_t)(cursor->end - cursor->at) < size)
        return NULL;
    const unsigned char *taken = cursor->at;
    cursor->at += size;
    return taken;
}

static bool cursor_number(struct cursor *cursor, size_t size, uint64_t *value)
{
    const unsigned char *bytes = cursor_take(cursor, size);
    if (bytes)
        *value = big_endian(bytes, size);
    return bytes != NULL;
}

/* The three kinds of header share one shape: a short form, the count in its tag, and long forms by size. */
static bool read_header(struct cursor *cursor, unsigned char short_tag, unsigned char short_mask,
                        const unsigned char *tags, const unsigned char *sizes, size_t forms, uint64_t *value)
{
    struct cursor ahead = *cursor;
    const unsigned char *tag = cursor_take(&ahead, 1);
    if (!tag)
        return false;
    if ((*tag & (unsigned char)~short_mask) == short_tag) {
        *value = *tag & short_mask;
        *cursor = ahead;
        return true;
    }
    for (size_t i = 0; i < forms; i++)
        if (*tag == tags[i] && cursor_number(&ahead, sizes[i], value)) {
            *cursor = ahead;
            return true;
        }
    return false;
}

static bool read_array(struct cursor *cursor, uint64_t *count)
{
    return read_header(cursor, 0x90, 0x0f, (const unsigned char[]){0xdc, 0xdd}, (const unsigned char[]){2, 4},
                       2, count);
}

static bool read_map(struct cursor *cursor, uint64_t *count)
{
    return read_header(cursor, 0x80, 0x0f, (const unsigned char[]){0xde, 0xdf}, (const unsigned char[]){2, 4},
                       2, count);
}

/* Also in msgpack's signed encodings, which some packers use for all integers. */
static bool read_unsigned(struct cursor *cursor, uint64_t *value)
{
    static const unsigned char tags[] = {0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3};
    static const unsigned char sizes[] = {1, 2, 4, 8, 1, 2, 4, 8};
    const unsigned char *start = cursor->at;
    if (!read_header(cursor, 0x00, 0x7f, tags, sizes, 8, value))
        return false;
    bool negative = *start >= 0xd0 && start[1] & 0x80;
    if (negative)
        cursor->at = start;
    return !negative;
}

static bool read_string(struct cursor *cursor, const char **string, uint32_t *length)
{
    struct cursor ahead = *cursor;
    uint64_t size;
    if (!read_header(&ahead, 0xa0, 0x1f, (const unsigned char[]){0xd9, 0xda, 0xdb},
                     (const unsigned char[]){1, 2, 4}, 3, &size))
        return false;
    const unsigned char *bytes = cursor_take(&ahead, size);
    if (!bytes)
        return false;
    *string = (const char *)bytes;
    *length = (uint32_t)size;
    *cursor = ahead;
    return true;
}

static bool read_double(struct cursor *cursor, double *value)
{
    uint64_t bits;
    struct cursor ahead = *cursor;
    const unsigned char *tag = cursor_take(&ahead, 1);
    if (tag && *tag == 0xcb && cursor_number(&ahead, 8, &bits)) {
        memcpy(value, &bits, sizeof(*value));
    } else if (tag && *tag == 0xca && cursor_number(&ahead, 4, &bits)) {
        uint32_t word = (uint32_t)bits;
        float single;
        memcpy(&single, &word, sizeof(single));
        *value = (double)single;
    } else {
        ahead = *cursor;
        if (!read_unsigned(&ahead, &bits))
            return false;
        *value = (double)bits;
    }
    *cursor = ahead;
    return true;
}

static enum envelope_result skip_value(struct cursor *cursor, unsigned max_depth)
{
    size_t length;
    switch (check_value(cursor->at, (size_t)(cursor->end - cursor->at), max_depth, &length)) {
    case CHECK_OK:
        cursor->at += length;
        return ENVELOPE_OK;
    case CHECK_TOO_DEEP:
        return ENVELOPE_TOO_DEEP;
    case CHECK_MALFORMED:
        break;
    }
    return ENVELOPE_BAD_FRAME;
}

static bool read_msgid(struct cursor *cursor, uint32_t *msgid)
{
    uint64_t value;
    if (!read_unsigned(cursor, &value) || value > UINT32_MAX)
        return false;
    *msgid = (uint32_t)value;
    return true;
}

/* The array header, the type and the msgid. */
static const char *read_opening(struct cursor *cursor, struct envelope_request *request, uint64_t *count)
{
    uint64_t type;
    if (!read_array(cursor, count) || *count < 4 || *count > 5)
        return "a request is an array of 4 or 5 elements";
    if (!read_unsigned(cursor, &type) || type != 0)
        return "a request begins with the type 0";
    request->has_msgid = read_msgid(cursor, &request->msgid);
    return request->has_msgid ? NULL : "the msgid is not an integer from 0 to 4294967295";
}

static bool name_is(const char *name, uint32_t length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(name, wanted, length) == 0;
}

/* One entry of meta. Unknown keys are skipped: they belong to later versions. */
static enum envelope_result read_meta_entry(struct cursor *cursor, struct envelope_request *request,
                                            const char **why)
{
    const char *key;
    uint32_t length;
    if (!read_string(cursor, &key, &length)) {
        enum envelope_result result = skip_value(cursor, CHECK_MAX_DEPTH);
        return result != ENVELOPE_OK ? result : skip_value(cursor, CHECK_MAX_DEPTH);
    }
    if (name_is(key, length, "deadline")) {
        request->has_deadline = read_unsigned(cursor, &request->deadline);
        *why = "meta: deadline is not an unsigned integer (ns of CLOCK_MONOTONIC)";
        return request->has_deadline ? ENVELOPE_OK : ENVELOPE_BAD_REQUEST;
    }
    if (name_is(key, length, "sent")) {
        request->has_sent = read_unsigned(cursor, &request->sent);
        return request->has_sent ? ENVELOPE_OK : skip_value(cursor, CHECK_MAX_DEPTH);
    }
    if (name_is(key, length, "timeout")) {
        request->has_timeout =
            read_double(cursor, &request->timeout) && !isnan(request->timeout) && request->timeout >= 0;
        *why = "meta: timeout is not a number of seconds";
        return request->has_timeout ? ENVELOPE_OK : ENVELOPE_BAD_REQUEST;
    }
    return skip_value(cursor, CHECK_MAX_DEPTH);
}

static enum envelope_result read_meta(struct cursor *cursor, struct envelope_request *request,
                                      const char **why)
{
    uint64_t count;
    if (!read_map(cursor, &count)) {
        *why = "meta is not a map";
        return ENVELOPE_BAD_REQUEST;
    }
    for (uint64_t i = 0; i < count; i++) {
        enum envelope_result result = read_meta_entry(cursor, request, why);
        if (result != ENVELOPE_OK)
            return result;
    }
    return ENVELOPE_OK;
}

/* The parts in order; each is bounds-checked where it is read, so that the body is walked once. */
static enum envelope_result read_parts(struct cursor *cursor, struct envelope_request *request,
                                       const char **why)
{
    uint64_t count;
    *why = read_opening(cursor, request, &count);
    if (*why)
        return ENVELOPE_BAD_REQUEST;
    *why = "the method is not a string";
    if (!read_string(cursor, &request->method, &request->method_length))
        return ENVELOPE_BAD_REQUEST;
    *why = "params is not an array";
    struct cursor params = *cursor;
    uint64_t param_count;
    if (!read_array(&params, &param_count))
        return ENVELOPE_BAD_REQUEST;
    request->param_count = (size_t)param_count;
    request->params = cursor->at;
    enum envelope_result result =
        skip_value(cursor, CHECK_MAX_DEPTH + 1); /* params itself is one container */
    request->params_size = (size_t)(cursor->at - request->params);
    if (result != ENVELOPE_OK || count == 4)
        return result;
    return read_meta(cursor, request, why);
}

enum envelope_result envelope_read_request(const unsigned char *body, size_t size,
                                           struct envelope_request *request, const char **why)
{
    struct cursor cursor = {.at = body, .end = body + size};
    *request = (struct envelope_request){0};
    enum envelope_result result = read_parts(&cursor, request, why);
    if (result == ENVELOPE_OK && cursor.at != cursor.end)
        result = ENVELOPE_BAD_FRAME;
    if (result == ENVELOPE_BAD_FRAME)
        *why = "the body is not exactly one well-formed msgpack value";
    if (result == ENVELOPE_TOO_DEEP)
        *why = "more than 30 containers inside one another";
    return result;
}

bool envelope_read_msgid(const unsigned char *body, size_t size, uint32_t *msgid)
{
    struct cursor cursor = {.at = body, .end = body + size};
    struct envelope_request request;
    uint64_t count;
    if (read_opening(&cursor, &request, &count))
        return false;
    *msgid = request.msgid;
    return true;
}

static bool skip_nil(struct cursor *cursor)
{
    bool nil = cursor->at < cursor->end && *cursor->at == 0xc0;
    cursor->at += nil;
    return nil;
}

/* One entry of an error map. What is no string is left out, as unknown keys are. */
static bool read_error_entry(struct cursor *cursor, struct envelope_response *response)
{
    const char *key, *ignored;
    uint32_t key_length, ignored_length;
    const char **text = &ignored;
    uint32_t *length = &ignored_length;
    if (!read_string(cursor, &key, &key_length))
        return skip_value(cursor, CHECK_MAX_DEPTH) == ENVELOPE_OK &&
               skip_value(cursor, CHECK_MAX_DEPTH) == ENVELOPE_OK;
    if (name_is(key, key_length, "code"))
        text = &response->code, length = &response->code_length;
    else if (name_is(key, key_length, "reason"))
        text = &response->reason, length = &response->reason_length;
    else if (name_is(key, key_length, "message"))
        text = &response->message, length = &response->message_length;
    return read_string(cursor, text, length) || skip_value(cursor, CHECK_MAX_DEPTH) == ENVELOPE_OK;
}

bool envelope_read_response(const unsigned char *body, size_t size, struct envelope_response *response)
{
    struct cursor cursor = {.at = body, .end = body + size};
    uint64_t count, type;
    *response = (struct envelope_response){0};
    if (!read_array(&cursor, &count) || count != 4 || !read_unsigned(&cursor, &type) || type != 1)
        return false;
    response->has_msgid = read_msgid(&cursor, &response->msgid);
    if (!response->has_msgid && !skip_nil(&cursor))
        return false;
    if (skip_nil(&cursor))
        return response->has_msgid;
    response->failed = true;
    if (!read_map(&cursor, &count))
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (!read_error_entry(&cursor, response))
            return false;
    return true;
}

/* --- writing --- */

struct output {
    unsigned char *bytes;
    size_t size;
    size_t capacity;
};

static int output_write(void *context, const char *bytes, size_t size)
{
    struct output *output = context;
    if (size > output->capacity - output->size)
        return -1;
    memcpy(output->bytes + output->size, bytes, size);
    output->size += size;
    return 0;
}

static void pack_flag(msgpack_packer *packer, bool flag)
{
    if (flag)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
}

/* Copies text to out, at most capacity bytes, with '?' for every byte that is not UTF-8. Returns the size. */
static size_t clean_utf8(const char *text, char *out, size_t capacity)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t size = strlen(text), used = 0;
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(bytes + i, size - i);
        size_t taken = length ? length : 1;
        if (taken > capacity - used)
            break;
        if (length)
            memcpy(out + used, bytes + i, length);
        else
            out[used] = '?';
        used += taken;
        i += taken;
    }
    return used;
}

static void pack_message(msgpack_packer *packer, const char *message)
{
    char clean[ENVELOPE_MESSAGE_MAX];
    size_t size = clean_utf8(message, clean, sizeof(clean));
    msgpack_pack_str_with_body(packer, clean, size);
}

static void pack_detail(msgpack_packer *packer, const char *key, const char *value)
{
    if (!value)
        return;
    pack_text(packer, key);
    pack_message(packer, value);
}

/* As many as leave room for what follows. */
static void pack_texts(msgpack_packer *packer, const char *key, const char *const *texts, size_t count)
{
    size_t kept = 0;
    if (count == 0)
        return;
    for (size_t room = ENVELOPE_DETAILS_MAX / 2; kept < count; kept++) {
        size_t size = strlen(texts[kept]) + 5;
        if (size > room)
            break;
        room -= size;
    }
    pack_text(packer, key);
    msgpack_pack_array(packer, kept);
    for (size_t i = 0; i < kept; i++)
        pack_message(packer, texts[i]);
}

static void pack_details(msgpack_packer *packer, const struct envelope_error *error)
{
    size_t count = (error->signal != NULL) + (error->report != NULL) + (error->stderr_tail != NULL) +
                   (error->frame_count > 0) + (error->report_count > 0);
    pack_text(packer, "details");
    msgpack_pack_map(packer, count);
    pack_detail(packer, "signal", error->signal);
    pack_detail(packer, "report", error->report);
    pack_texts(packer, "frames", error->frames, error->frame_count);
    pack_texts(packer, "reports", error->reports, error->report_count);
    pack_detail(packer, "stderr", error->stderr_tail);
}

static void pack_error(msgpack_packer *packer, const struct envelope_error *error)
{
    msgpack_pack_map(packer, 6);
    pack_text(packer, "code");
    pack_text(packer, error->code);
    pack_text(packer, "message");
    pack_message(packer, error->message);
    pack_text(packer, "reason");
    pack_text(packer, error->reason);
    pack_text(packer, "executed");
    pack_flag(packer, error->executed);
    pack_text(packer, "retry");
    pack_flag(packer, error->retry);
    pack_details(packer, error);
}

size_t envelope_write_error(unsigned char frame[ENVELOPE_ERROR_MAX], bool has_msgid, uint32_t msgid,
                            const struct envelope_error *error)
{
    struct output output = {.bytes = frame, .size = FRAME_HEADER_SIZE, .capacity = ENVELOPE_ERROR_MAX};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &output, output_write);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, 1);
    if (has_msgid)
        msgpack_pack_uint32(&packer, msgid);
    else
        msgpack_pack_nil(&packer);
    pack_error(&packer, error);
    msgpack_pack_nil(&packer);
    frame_put_length(frame, (uint32_t)(output.size - FRAME_HEADER_SIZE));
    return output.size;
}

void envelope_write_result_header(unsigned char header[ENVELOPE_RESULT_HEADER], uint32_t msgid,
                                  uint32_t result_size)
{
    unsigned char *body = header + FRAME_HEADER_SIZE;
    frame_put_length(header, ENVELOPE_RESULT_HEADER - FRAME_HEADER_SIZE + result_size);
    body[0] = 0x94; /* array of 4 */
    body[1] = 0x01;
    body[2] = 0xce; /* uint32 */
    body[3] = (unsigned char)(msgid >> 24);
    body[4] = (unsigned char)(msgid >> 16);
    body[5] = (unsigned char)(msgid >> 8);
    body[6] = (unsigned char)msgid;
    body[7] = 0xc0; /* nil */
}
