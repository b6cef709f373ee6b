#include "bench_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frame.h"

void bench_connection_adopt(struct bench_connection *connection, int fd)
{
    connection->fd = fd;
    connection->sent = connection->frame.size;
    connection->broken = false;
    connection->received = 0;
}

int bench_connection_open(struct bench_connection *connection, const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 || fcntl(fd, F_SETFL, 0) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    bench_connection_adopt(connection, fd);
    return 0;
}

void bench_connection_close(struct bench_connection *connection)
{
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

/* What of the frame is left. Returns the number of pieces. */
static size_t find_rest(const struct bench_connection *connection, struct iovec rest[TEMPLATE_PIECES_MAX])
{
    size_t skipped = connection->sent;
    size_t count = 0;

    for (size_t i = 0; i < connection->frame.count; i++) {
        struct iovec piece = connection->frame.pieces[i];
        size_t skip = skipped < piece.iov_len ? skipped : piece.iov_len;
        skipped -= skip;
        if (skip == piece.iov_len)
            continue;
        rest[count++] =
            (struct iovec){.iov_base = (char *)piece.iov_base + skip, .iov_len = piece.iov_len - skip};
    }
    return count;
}

static ssize_t send_rest(const struct bench_connection *connection)
{
    const struct template_frame *frame = &connection->frame;
    struct iovec rest[TEMPLATE_PIECES_MAX];

    if (frame->count == 1) /* the common case, and the cheaper call */
        return send(connection->fd, (const char *)frame->pieces[0].iov_base + connection->sent,
                    frame->size - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct msghdr message = {.msg_iov = rest, .msg_iovlen = find_rest(connection, rest)};
    return sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void bench_connection_send(struct bench_connection *connection)
{
    ssize_t sent;

    do
        sent = send_rest(connection);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        connection->sent += (size_t)sent;
    else if (errno != EAGAIN)
        connection->broken = true; /* the end, or the reason, is there to be read */
}

/* Keeps the beginning of a reply that comes in pieces. */
static void keep_head(struct bench_connection *connection, const unsigned char *bytes, size_t size)
{
    if (connection->received >= BENCH_HEAD_SIZE)
        return;
    size_t room = BENCH_HEAD_SIZE - (size_t)connection->received;
    memcpy(connection->head + connection->received, bytes, size < room ? size : room);
}

static enum bench_arrival take_bytes(struct bench_connection *connection, const unsigned char *bytes,
                                     size_t size, struct bench_reply *reply)
{
    bool first = connection->received == 0;
    uint64_t received = connection->received + size;
    bool whole =
        first && size >= FRAME_HEADER_SIZE && FRAME_HEADER_SIZE + (uint64_t)frame_get_length(bytes) == size;

    if (!whole)
        keep_head(connection, bytes, size);
    connection->received = received;
    if (received < FRAME_HEADER_SIZE)
        return BENCH_NOTHING;
    reply->head = whole ? bytes : connection->head;
    reply->head_size = whole || received < BENCH_HEAD_SIZE ? (size_t)received : BENCH_HEAD_SIZE;
    reply->size = FRAME_HEADER_SIZE + (uint64_t)frame_get_length(reply->head);
    if (reply->size == FRAME_HEADER_SIZE || received > reply->size)
        return BENCH_CONFUSED;
    if (received < reply->size)
        return BENCH_NOTHING;
    connection->received = 0;
    return BENCH_REPLY;
}

enum bench_arrival bench_connection_receive(struct bench_connection *connection, unsigned char *buffer,
                                            bool wait, struct bench_reply *reply)
{
    ssize_t got = recv(connection->fd, buffer, BENCH_BUFFER_SIZE, wait ? 0 : MSG_DONTWAIT);

    if (got > 0)
        return take_bytes(connection, buffer, (size_t)got, reply);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return BENCH_NOTHING;
    return BENCH_LOST;
}
