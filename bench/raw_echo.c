/* The limit that calls are measured against: a process that reads a frame and writes it back, and does
 * nothing else, in one process for each connection.
 *
 *     raw_echo SOCKET        ends when it is killed */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
        listen(listener, SOMAXCONN) < 0)
        fail(path);
    return listener;
}

/* Makes room for size bytes. */
static unsigned char *grow(unsigned char *buffer, size_t *capacity, size_t size)
{
    if (size <= *capacity)
        return buffer;
    buffer = realloc(buffer, size);
    if (!buffer)
        fail("memory");
    *capacity = size;
    return buffer;
}

/* Reads all of a frame, then writes all of it. Returns 0 at the end of the connection. */
static int echo_frame(int connection, unsigned char **buffer, size_t *capacity)
{
    size_t received = 0, wanted = FRAME_HEADER_SIZE;
    while (received < wanted) {
        ssize_t count = recv(connection, *buffer + received, *capacity - received, 0);
        if (count <= 0)
            return 0;
        received += (size_t)count;
        if (received >= FRAME_HEADER_SIZE)
            wanted = FRAME_HEADER_SIZE + (size_t)frame_get_length(*buffer);
        *buffer = grow(*buffer, capacity, wanted);
    }
    for (size_t sent = 0; sent < received;) {
        ssize_t count = send(connection, *buffer + sent, received - sent, MSG_NOSIGNAL);
        if (count <= 0)
            return 0;
        sent += (size_t)count;
    }
    return 1;
}

static _Noreturn void serve(int connection)
{
    size_t capacity = 0;
    unsigned char *buffer = grow(NULL, &capacity, 1 << 20);
    while (echo_frame(connection, &buffer, &capacity))
        ;
    exit(EXIT_SUCCESS);
}

/* A process for each connection, so that none waits for another one; they end with this one. */
int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: raw_echo SOCKET\n", stderr);
        return 2;
    }
    signal(SIGCHLD, SIG_IGN);
    int listener = listen_at(argv[1]);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            fail("accept");
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(listener);
            serve(connection);
        }
        close(connection);
    }
}
