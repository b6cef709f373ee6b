/* One connection of the load generator, on which at most one call is under way. It moves bytes and knows
 * where frames end; what they say is the caller's business. */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "template.h"

/* How much of a reply is kept: more than any error of cohabd's has. */
#define BENCH_HEAD_SIZE   16384u
#define BENCH_BUFFER_SIZE (256u << 10)

struct bench_connection {
    int fd;                              /* -1: not connected */
    struct template_frame frame;         /* what is being sent, or was sent last */
    size_t sent;                         /* bytes of it */
    bool broken;                         /* the server takes no more bytes; it may have said why */
    uint64_t received;                   /* bytes of the reply */
    unsigned char head[BENCH_HEAD_SIZE]; /* its beginning, unless it came in one piece */
};

struct bench_reply {
    const unsigned char *head; /* the beginning of the frame, length word included */
    size_t head_size;
    uint64_t size; /* of the whole frame */
};

enum bench_arrival {
    BENCH_NOTHING, /* no whole frame yet */
    BENCH_REPLY,
    BENCH_CONFUSED, /* a length of 0, or bytes behind the frame */
    BENCH_LOST,     /* closed by the other side */
};

/* Connects at once or not at all. Returns 0, or -1 with errno: EAGAIN where the queue of new connections is
 * full. */
int bench_connection_open(struct bench_connection *connection, const char *socket_path);
/* Takes a connected socket over. */
void bench_connection_adopt(struct bench_connection *connection, int fd);
void bench_connection_close(struct bench_connection *connection);

/* Sends what is possible now of the frame that connection->frame holds. */
void bench_connection_send(struct bench_connection *connection);
/* Whether there is nothing left to be sent. */
static inline bool bench_connection_is_done(const struct bench_connection *connection)
{
    return connection->broken || connection->sent == connection->frame.size;
}

/* One recv() into the buffer (BENCH_BUFFER_SIZE), which several connections may share. With `wait` it blocks
 * until something comes, or a signal. The reply is valid until the next call. */
enum bench_arrival bench_connection_receive(struct bench_connection *connection, unsigned char *buffer,
                                            bool wait, struct bench_reply *reply);

#endif
