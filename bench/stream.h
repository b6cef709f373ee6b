/* What the programs in bench/ share: Unix sockets, blocking, and the frames of docs/protocol.md on them.
 * Functions that cannot go on say why on stderr and end the program: a benchmark has nobody to report to. */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>

/* Grows to the largest frame that it has held. Starts as all zeroes; the owner frees `bytes`. */
struct stream_buffer {
    unsigned char *bytes;
    size_t size;
};

_Noreturn void stream_fail(const char *what);

/* Listens at `path`, which must not exist. */
int stream_listen(const char *path, int backlog);
/* Connects to `path`; while the backlog is full, again and again for ten seconds. */
int stream_connect(const char *path);

/* Receives one whole frame, in one recv() where it is there and fits. Returns its size in bytes, the header
 * included; 0 at the end of the connection, or when the peer has broken it. Takes no pipelined frames. */
size_t stream_receive(int connection, struct stream_buffer *buffer);
/* Sends all of it. Returns false when the peer has broken the connection. */
bool stream_send(int connection, const unsigned char *bytes, size_t size);

#endif
