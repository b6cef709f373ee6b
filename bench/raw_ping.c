/* The other end of raw_echo: a blocking loop that sends a frame and waits for it to come back, and does
 * nothing else. What cohab bench itself adds to a latency is the difference to this.
 *
 *     raw_ping SOCKET CALLS [BODY_SIZE] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "clock.h"
#include "frame.h"

#define BODY_DEFAULT 35 /* that of cohab bench echo hi */
#define BODY_MAX     65536

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail(path);
    return connection;
}

static void ping(int connection, const unsigned char *frame, size_t size)
{
    static unsigned char reply[FRAME_HEADER_SIZE + BODY_MAX];
    if (send(connection, frame, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("send");
    for (size_t received = 0; received < size;) {
        ssize_t count = recv(connection, reply + received, sizeof(reply) - received, 0);
        if (count <= 0)
            fail("recv");
        received += (size_t)count;
    }
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static size_t read_number(const char *text, size_t most)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end || number == 0 || number > most) {
        fprintf(stderr, "raw_ping: '%s' is not a number from 1 to %zu\n", text, most);
        exit(2);
    }
    return (size_t)number;
}

int main(int argc, char **argv)
{
    static unsigned char frame[FRAME_HEADER_SIZE + BODY_MAX];
    if (argc != 3 && argc != 4) {
        fputs("usage: raw_ping SOCKET CALLS [BODY_SIZE]\n", stderr);
        return 2;
    }
    size_t calls = read_number(argv[2], 100000000);
    size_t body = argc == 4 ? read_number(argv[3], BODY_MAX) : BODY_DEFAULT;
    uint64_t *times = calloc(calls, sizeof(*times));
    if (!times)
        fail("memory");
    int connection = connect_to(argv[1]);
    frame_put_length(frame, (uint32_t)body);
    for (size_t i = 0; i < calls; i++) {
        uint64_t begin = clock_now();
        ping(connection, frame, FRAME_HEADER_SIZE + body);
        times[i] = clock_now() - begin;
    }
    qsort(times, calls, sizeof(*times), compare);
    printf("p50 %.2f us, p99 %.2f us\n", (double)times[calls / 2] / 1e3,
           (double)times[calls - 1 - calls / 100] / 1e3);
    return 0;
}
