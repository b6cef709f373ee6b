/* The limit that calls are measured against: a process that reads a frame and writes it back, and does
 * nothing else. One connection at a time.
 *
 *     raw_echo SOCKET        ends when it is killed */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frame.h"

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        fputs("raw_echo: the path is too long\n", stderr);
        exit(EXIT_FAILURE);
    }
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 8) < 0)
        fail(path);
    return listener;
}

/* Returns 0 at the end of the connection. */
static int echo_frame(int connection, unsigned char *buffer, size_t size)
{
    size_t received = 0, wanted = FRAME_HEADER_SIZE;
    while (received < wanted) {
        ssize_t count = recv(connection, buffer + received, size - received, 0);
        if (count <= 0)
            return 0;
        received += (size_t)count;
        if (received >= FRAME_HEADER_SIZE)
            wanted = FRAME_HEADER_SIZE + (size_t)frame_get_length(buffer);
        if (wanted > size)
            return 0;
    }
    for (size_t sent = 0; sent < received;) {
        ssize_t count = send(connection, buffer + sent, received - sent, MSG_NOSIGNAL);
        if (count <= 0)
            return 0;
        sent += (size_t)count;
    }
    return 1;
}

int main(int argc, char **argv)
{
    static unsigned char buffer[1 << 20];
    if (argc != 2) {
        fputs("usage: raw_echo SOCKET\n", stderr);
        return 2;
    }
    int listener = listen_at(argv[1]);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            fail("accept");
        while (echo_frame(connection, buffer, sizeof(buffer)))
            ;
        close(connection);
    }
}
