/* The response that a worker is building: one block of private memory that holds the whole frame. */
#ifndef RESPONSE_H
#define RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <msgpack.h>

#include "envelope.h"

enum response_trouble { RESPONSE_FINE, RESPONSE_TOO_LARGE, RESPONSE_NO_MEMORY };

struct response {
    unsigned char *bytes; /* header, then what was packed */
    size_t size;          /* of all, header included */
    size_t capacity;
    size_t limit; /* most bytes of a frame, header included */
    enum response_trouble trouble;
    const char *code;      /* of the error that it is, borrowed; NULL: a result */
    msgpack_packer packer; /* writes the result here */
};

/* limit: the largest body. -1 without memory. */
int response_init(struct response *response, uint32_t max_frame);
/* An empty result. */
void response_reset(struct response *response);
/* The same, and gives back memory that an unusually large result took. */
void response_trim(struct response *response);
/* The bytes packed so far. */
size_t response_result_size(const struct response *response);
const unsigned char *response_result(const struct response *response);
/* Packs nil where nothing was packed, and puts the header in front. On trouble: -1, with response->trouble */
int response_finish(struct response *response, uint32_t msgid);
/* Replaces whatever was packed. */
void response_error(struct response *response, bool has_msgid, uint32_t msgid,
                    const struct envelope_error *error);

#endif
