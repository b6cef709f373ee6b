/* What a worker does with a connection that it has claimed: receive a frame, understand it, run it, answer
 * it; as long as the connection has pipelined frames. Every step is on record in the row before it is taken.
 * Worker only. */
#ifndef SERVE_H
#define SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include <msgpack.h>

#include "engine_load.h"
#include "meter.h"
#include "options.h"
#include "quarantine.h"
#include "response.h"
#include "row.h"
#include "shed.h"

struct server {
    struct row *row;
    unsigned char *buffer; /* the request buffer, shared with the master */
    size_t buffer_size;
    const struct options *options;
    struct engine *engine;
    struct response response;
    msgpack_zone zone;
    const struct quarantine_table *quarantine; /* NULL: nothing is refused by it */
    struct meter *meter;                       /* NULL: nothing is counted */
    unsigned metered;                          /* methods that it has room for */
    struct meter_record record;                /* of the request under way; its peer is set by the worker */
    struct shed shed;
    uint64_t begun;   /* when that was read; CLOCK_MONOTONIC, ns */
    uint64_t key;     /* the row's */
    uint64_t request; /* number of the last request */
    size_t received;  /* bytes in the buffer */
    size_t touched;   /* most bytes that the buffer held since it was last trimmed */
    size_t largest;   /* request or response of this claim */
    bool was_large;   /* the claim before this one: over LARGE */
};

/* Size of the request buffer for a largest body; whole pages. */
size_t serve_buffer_size(uint32_t max_frame);

enum serve_outcome {
    SERVE_REARM, /* done with the connection for now; the row says ANSWERED */
    SERVE_CLOSE, /* end of file, an error, or a stream that cannot be read on; the row says CLOSING */
    SERVE_LOST,  /* the descriptor is not a connection any more; nothing was sent, and the row says what was
                    running */
};

/* -1 without memory. */
int serve_init(struct server *server, struct row *row, unsigned char *buffer, const struct options *options,
               struct engine *engine);
enum serve_outcome serve_connection(struct server *server, int connection);
/* The part of that without a connection: runs the request whose frame lies whole in the buffer, and leaves
 * what is to be sent in server->response. False where it is no request, so that nothing behind it can be read
 * either. */
bool serve_answer(struct server *server);
/* Makes row and buffer ready for the next claim: the last step of a claim. */
void serve_ready(struct server *server);

/* A release store: what was written before is visible to whoever reads the state. */
static inline void serve_set_state(struct server *server, enum row_state state)
{
    atomic_store_explicit(&server->row->state, (uint32_t)state, memory_order_release);
}

#endif
