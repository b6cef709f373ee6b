/* A blocking client: one connection, one call at a time. It prints nothing: what went wrong is in
 * `trouble` and `text`, and after trouble the connection is closed, for what comes next on it could be the
 * answer to another question. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <msgpack.h>

/* The admin socket lies beside the other one. */
#define CLIENT_ADMIN_SUFFIX ".ctl"
#define CLIENT_SECOND       UINT64_C(1000000000)

enum client_trouble {
    CLIENT_FINE,
    CLIENT_UNREACHABLE, /* no connection */
    CLIENT_LOST,        /* the connection ended before the answer */
    CLIENT_LATE,        /* no answer in time */
    CLIENT_CONFUSED,    /* the answer breaks the protocol */
    CLIENT_EXHAUSTED,   /* this process has no memory for it, or no descriptor */
};

struct client {
    int fd; /* -1: not connected */
    bool admin;
    uint32_t msgid;
    uint64_t deadline; /* of the request under way */
    enum client_trouble trouble;
    char text[512]; /* one line for people; not terminated by a line end */
};

struct client_request {
    const char *method;
    const msgpack_sbuffer *params; /* one array; NULL: no parameters */
    uint64_t deadline;             /* for the server; CLOCK_MONOTONIC, ns */
    uint64_t give_up;              /* when the client itself stops waiting */
};

struct client_reply {
    unsigned char *body; /* error and result lead into it and into tree */
    uint32_t size;
    msgpack_unpacked tree;
    const msgpack_object *error; /* a map; NULL: the call succeeded */
    const msgpack_object *result;
};

uint64_t client_now(void);
uint64_t client_after(double seconds);

/* Connects to the socket, or to the admin socket beside it, and tries until `give_up` while the queue of
 * new connections is full. Returns 0, or -1 with the trouble. */
int client_connect(struct client *client, const char *socket_path, bool admin, uint64_t give_up);
/* Returns 0 when there is an answer, which may be an error, or -1 with the trouble. The reply is to be
 * freed after either. */
int client_call(struct client *client, const struct client_request *request, struct client_reply *reply);
/* Waits until the server closes the connection. */
void client_wait_closed(struct client *client);
void client_close(struct client *client);
void client_free_reply(struct client_reply *reply);

#endif
