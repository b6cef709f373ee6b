#include "stream.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

enum {
    FIRST_SIZE = 64 * 1024,
    CONNECT_TRIES = 10 * 1000,
    CONNECT_PAUSE_NS = 1000 * 1000,
};

void stream_fail(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(EXIT_FAILURE);
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        stream_fail(path);
    }
    strcpy(address.sun_path, path);
    return address;
}

int stream_listen(const char *path, int backlog)
{
    struct sockaddr_un address = address_of(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, backlog) < 0)
        stream_fail(path);
    return listener;
}

int stream_connect(const char *path)
{
    struct sockaddr_un address = address_of(path);
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        stream_fail("socket");
    for (int i = 0; connect(connection, (struct sockaddr *)&address, sizeof(address)) < 0; i++) {
        if ((errno != EAGAIN && errno != EINTR) || i == CONNECT_TRIES)
            stream_fail(path);
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_PAUSE_NS}, NULL);
    }
    return connection;
}

static void grow(struct stream_buffer *buffer, size_t size)
{
    unsigned char *bytes = realloc(buffer->bytes, size);
    if (!bytes)
        stream_fail("a frame");
    *buffer = (struct stream_buffer){.bytes = bytes, .size = size};
}

size_t stream_receive(int connection, struct stream_buffer *buffer)
{
    if (buffer->size < FIRST_SIZE)
        grow(buffer, FIRST_SIZE);
    size_t received = 0, wanted = FRAME_HEADER_SIZE;
    while (received < wanted) {
        ssize_t count = recv(connection, buffer->bytes + received, buffer->size - received, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return 0;
        received += (size_t)count;
        if (received >= FRAME_HEADER_SIZE)
            wanted = FRAME_HEADER_SIZE + (size_t)frame_get_length(buffer->bytes);
        if (wanted > buffer->size)
            grow(buffer, wanted);
    }
    return received;
}

bool stream_send(int connection, const unsigned char *bytes, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(connection, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        sent += (size_t)count;
    }
    return true;
}
