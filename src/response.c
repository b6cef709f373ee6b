#include "response.h"

#include <stdlib.h>
#include <string.h>

/* What is kept between calls: enough for small ones and for every error, and small enough to keep in every
 * worker. */
#define CAPACITY_KEPT    (1u << 20)
#define CAPACITY_INITIAL (16u << 10)
_Static_assert(CAPACITY_INITIAL >= ENVELOPE_ERROR_MAX, "any error fits");

static int trouble(struct response *response, enum response_trouble what)
{
    response->trouble = what;
    return -1;
}

static int grow(struct response *response, size_t wanted)
{
    size_t capacity = response->capacity;
    while (capacity < wanted)
        capacity *= 2;
    if (capacity > response->limit)
        capacity = response->limit;
    unsigned char *bytes = realloc(response->bytes, capacity);
    if (!bytes)
        return trouble(response, RESPONSE_NO_MEMORY);
    response->bytes = bytes;
    response->capacity = capacity;
    return 0;
}

static int response_write(void *context, const char *bytes, size_t size)
{
    struct response *response = context;
    if (response->trouble != RESPONSE_FINE)
        return -1;
    if (size > response->limit - response->size)
        return trouble(response, RESPONSE_TOO_LARGE);
    if (size > response->capacity - response->size && grow(response, response->size + size) < 0)
        return -1;
    if (size > 0) /* an empty body comes as NULL */
        memcpy(response->bytes + response->size, bytes, size);
    response->size += size;
    return 0;
}

int response_init(struct response *response, uint32_t max_frame)
{
    *response = (struct response){.limit = FRAME_HEADER_SIZE + (size_t)max_frame,
                                  .capacity = CAPACITY_INITIAL,
                                  .bytes = malloc(CAPACITY_INITIAL)};
    msgpack_packer_init(&response->packer, response, response_write);
    response_reset(response);
    return response->bytes ? 0 : -1;
}

void response_reset(struct response *response)
{
    response->size = ENVELOPE_RESULT_HEADER;
    response->trouble = RESPONSE_FINE;
    response->code = NULL;
}

void response_trim(struct response *response)
{
    if (response->capacity <= CAPACITY_KEPT)
        return;
    response_reset(response);
    unsigned char *bytes = realloc(response->bytes, CAPACITY_INITIAL);
    if (!bytes)
        return;
    response->bytes = bytes;
    response->capacity = CAPACITY_INITIAL;
}

size_t response_result_size(const struct response *response)
{
    return response->size - ENVELOPE_RESULT_HEADER;
}

const unsigned char *response_result(const struct response *response)
{
    return response->bytes + ENVELOPE_RESULT_HEADER;
}

int response_finish(struct response *response, uint32_t msgid)
{
    if (response_result_size(response) == 0)
        msgpack_pack_nil(&response->packer);
    if (response->trouble != RESPONSE_FINE)
        return -1;
    envelope_write_result_header(response->bytes, msgid, (uint32_t)response_result_size(response));
    return 0;
}

void response_error(struct response *response, bool has_msgid, uint32_t msgid,
                    const struct envelope_error *error)
{
    response->trouble = RESPONSE_FINE;
    response->code = error->code;
    response->size = envelope_write_error(response->bytes, has_msgid, msgid, error);
}
