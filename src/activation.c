#include "activation.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

/* The first descriptor that is handed over, as sd-daemon has it. */
#define FIRST 3

static bool option_is(int socket, int option, int wanted)
{
    int value;
    socklen_t size = sizeof(value);
    return getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

static void check_kind(int socket)
{
    if (!option_is(socket, SO_DOMAIN, AF_UNIX) || !option_is(socket, SO_TYPE, SOCK_STREAM) ||
        !option_is(socket, SO_ACCEPTCONN, 1))
        fatal("LISTEN_FDS: descriptor %d is not a listening Unix stream socket: the socket unit needs "
              "ListenStream=/PATH and Accept=no",
              socket);
}

/* Its path, unless the user has named one. */
static void export_path(int socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[sizeof(address.sun_path) + 1] = "";
    socklen_t size = sizeof(address);
    if (getsockname(socket, (struct sockaddr *)&address, &size) < 0)
        fatal("LISTEN_FDS: cannot tell the path of descriptor %d: %m", socket);
    if (size > offsetof(struct sockaddr_un, sun_path))
        memcpy(path, address.sun_path, size - offsetof(struct sockaddr_un, sun_path));
    if (*path && setenv("COHAB_SOCKET", path, 0) < 0) /* an abstract one has none: --socket is needed */
        fatal("out of memory");
}

/* Sockets for this process; those for another, which has left us its environment, are none of ours. */
static long count_given(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char *end;
    if (!pid || !count || strtol(pid, NULL, 10) != getpid())
        return 0;
    long given = strtol(count, &end, 10);
    if (end == count || *end || given < 0)
        fatal("LISTEN_FDS is '%s', not a number", count);
    return given;
}

int activation_take(void)
{
    long given = count_given();
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (given == 0)
        return -1;
    if (given > 1)
        fatal("LISTEN_FDS brings %ld sockets; cohabd serves one: leave one ListenStream= in the socket unit",
              given);
    check_kind(FIRST);
    if (fcntl(FIRST, F_SETFL, fcntl(FIRST, F_GETFL) | O_NONBLOCK) < 0)
        fatal("LISTEN_FDS: cannot use descriptor %d: %m", FIRST);
    export_path(FIRST);
    return FIRST;
}
