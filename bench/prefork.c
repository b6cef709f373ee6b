/* How servers share work among processes without a shared epoll set, in as little code as each takes, so that
 * cohab's way can be measured against them. They speak the frames of docs/protocol.md, with the methods
 * echo(x), sleep(seconds) and spin(seconds).
 *
 *     prefork [--accept-per-request] SOCKET WORKERS        ends when it is killed
 *
 * Classic prefork: every worker accepts, and a connection stays with the worker that accepted it. With
 * --accept-per-request (as Unicorn and PHP-FPM do) a worker accepts, serves one request, and closes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <msgpack.h>

#include "frame.h"
#include "stream.h"
#include "work.h"

enum { WORKERS_MAX = 1000, BACKLOG = 1024 };

/* One for each worker. */
struct server {
    int listener, set;
    struct stream_buffer request;
    msgpack_sbuffer response;
};

static bool is_named(const msgpack_object *method, const char *name)
{
    return method->type == MSGPACK_OBJECT_STR && method->via.str.size == strlen(name) &&
           memcmp(method->via.str.ptr, name, strlen(name)) == 0;
}

/* What a call returns; NULL for a method that is not there, or another parameter than it takes. */
static const msgpack_object *run_method(const msgpack_object *method, const msgpack_object *parameter)
{
    static const msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};
    if (is_named(method, "echo"))
        return parameter;
    if (parameter->type != MSGPACK_OBJECT_FLOAT64)
        return NULL;
    if (is_named(method, "sleep"))
        work_sleep(parameter->via.f64);
    else if (is_named(method, "spin"))
        work_spin(parameter->via.f64);
    else
        return NULL;
    return &nil;
}

/* [0, msgid, method, [parameter], meta] becomes [1, msgid, nil, result] behind room for the frame's header.
 */
static bool answer(const msgpack_object *request, msgpack_sbuffer *response)
{
    static const char header[FRAME_HEADER_SIZE];
    const msgpack_object *element = request->via.array.ptr;
    if (request->type != MSGPACK_OBJECT_ARRAY || request->via.array.size < 4 ||
        element[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER || element[3].type != MSGPACK_OBJECT_ARRAY ||
        element[3].via.array.size != 1)
        return false;
    const msgpack_object *result = run_method(&element[2], element[3].via.array.ptr);
    if (!result)
        return false;
    msgpack_packer packer;
    msgpack_packer_init(&packer, response, msgpack_sbuffer_write);
    msgpack_sbuffer_clear(response);
    if (msgpack_sbuffer_write(response, header, sizeof(header)) != 0 || msgpack_pack_array(&packer, 4) != 0 ||
        msgpack_pack_int(&packer, 1) != 0 ||
        msgpack_pack_fix_uint32(&packer, (uint32_t)element[1].via.u64) != 0 ||
        msgpack_pack_nil(&packer) != 0 || msgpack_pack_object(&packer, *result) != 0)
        return false;
    frame_put_length((unsigned char *)response->data, (uint32_t)(response->size - FRAME_HEADER_SIZE));
    return true;
}

/* One request. Returns false when the connection is of no more use. */
static bool serve(struct server *server, int connection)
{
    size_t size = stream_receive(connection, &server->request);
    if (size == 0)
        return false;
    msgpack_unpacked request;
    msgpack_unpacked_init(&request);
    bool done = msgpack_unpack_next(&request, (const char *)server->request.bytes + FRAME_HEADER_SIZE,
                                    size - FRAME_HEADER_SIZE, NULL) == MSGPACK_UNPACK_SUCCESS &&
                answer(&request.data, &server->response) &&
                stream_send(connection, (const unsigned char *)server->response.data, server->response.size);
    msgpack_unpacked_destroy(&request);
    return done;
}

static void watch(const struct server *server, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(server->set, EPOLL_CTL_ADD, fd, &event) < 0)
        stream_fail("epoll_ctl");
}

_Noreturn static void run_prefork(struct server *server)
{
    server->set = epoll_create1(EPOLL_CLOEXEC);
    /* Of the workers that are woken for one connection all but one come too late. */
    if (server->set < 0 || fcntl(server->listener, F_SETFL, O_NONBLOCK) < 0)
        stream_fail("epoll");
    watch(server, server->listener);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(server->set, &event, 1, -1) != 1)
            continue;
        if (event.data.fd == server->listener) {
            int connection = accept(server->listener, NULL, NULL);
            if (connection >= 0)
                watch(server, connection);
            else if (errno != EAGAIN && errno != EINTR)
                stream_fail("accept");
        } else if (!serve(server, event.data.fd)) {
            close(event.data.fd);
        }
    }
}

_Noreturn static void run_accept_per_request(struct server *server)
{
    for (;;) {
        int connection = accept(server->listener, NULL, NULL);
        if (connection < 0 && errno != EINTR)
            stream_fail("accept");
        if (connection < 0)
            continue;
        serve(server, connection);
        close(connection);
    }
}

int main(int argc, char **argv)
{
    bool per_request = argc > 1 && strcmp(argv[1], "--accept-per-request") == 0;
    char **arguments = argv + 1 + per_request;
    long workers = argc == 3 + per_request ? strtol(arguments[1], NULL, 10) : 0;
    if (workers < 1 || workers > WORKERS_MAX) {
        fputs("usage: prefork [--accept-per-request] SOCKET WORKERS\n", stderr);
        return 2;
    }
    struct server server = {.listener = stream_listen(arguments[0], BACKLOG)};
    msgpack_sbuffer_init(&server.response);
    for (long i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid < 0)
            stream_fail("fork");
        if (pid > 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (per_request)
            run_accept_per_request(&server);
        run_prefork(&server);
    }
    for (;;)
        pause();
}
