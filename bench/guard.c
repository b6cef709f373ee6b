/* One side of a small call, COUNT times over, in one process and without waiting: what scripts/bench-guard
 * counts instructions of. The other side's bytes are put into the socket beforehand and taken out afterwards.
 *
 *     guard server COUNT ENGINE    a worker receives, understands, runs, answers: echo of 64 bytes
 *     guard client COUNT           the client of the cohab tool asks and reads the answer */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <msgpack.h>

#include "builtin.h"
#include "cli/client.h"
#include "engine_load.h"
#include "frame.h"
#include "options.h"
#include "serve.h"

#define PAYLOAD 64

enum { NEAR, FAR }; /* ends of the socket pair: the side that is counted, and what stands for the other */

static void check(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "guard: %s\n", what);
    exit(EXIT_FAILURE);
}

static void put_frame(int socket, msgpack_sbuffer *frame)
{
    frame_put_length((unsigned char *)frame->data, (uint32_t)(frame->size - FRAME_HEADER_SIZE));
    check(write(socket, frame->data, frame->size) == (ssize_t)frame->size, "cannot write");
}

static void take_frame(int socket)
{
    unsigned char bytes[4096];
    check(read(socket, bytes, sizeof(bytes)) > PAYLOAD, "no frame");
}

static void pack_payload(msgpack_packer *packer)
{
    static const char payload[PAYLOAD];
    msgpack_pack_bin(packer, PAYLOAD);
    msgpack_pack_bin_body(packer, payload, PAYLOAD);
}

static void begin_frame(msgpack_sbuffer *frame, msgpack_packer *packer)
{
    msgpack_sbuffer_clear(frame);
    msgpack_packer_init(packer, frame, msgpack_sbuffer_write);
    msgpack_sbuffer_write(frame, (const char[FRAME_HEADER_SIZE]){0}, FRAME_HEADER_SIZE);
}

static void run_server(const int *sockets, unsigned long count, const char *path)
{
    static struct server server;
    static struct row row;
    static struct engine engine;
    static char meta[] = "deadline";
    struct options options = {.max_frame = 1u << 20,
                              .default_timeout = 30 * CLIENT_SECOND,
                              .max_timeout = 300 * CLIENT_SECOND,
                              .io_timeout = CLIENT_SECOND};
    unsigned char *buffer = malloc(serve_buffer_size(options.max_frame));
    check(buffer && engine_open(&engine, path, 0, NULL) == 0, engine.setup.error);
    struct meter *meter = calloc(1, meter_size(METER_METHODS + 16));
    check(meter && builtin_init() == 0 && serve_init(&server, &row, buffer, &options, &engine) == 0,
          "no memory");
    server.meter = meter;
    server.metered = METER_METHODS + 16;
    msgpack_sbuffer frame;
    msgpack_packer packer;
    msgpack_sbuffer_init(&frame);
    for (unsigned long i = 0; i < count; i++) {
        begin_frame(&frame, &packer);
        msgpack_pack_array(&packer, 5);
        msgpack_pack_int(&packer, 0);
        msgpack_pack_fix_uint32(&packer, (uint32_t)i);
        msgpack_pack_str_with_body(&packer, "echo", 4);
        msgpack_pack_array(&packer, 1);
        pack_payload(&packer);
        msgpack_pack_map(&packer, 1);
        msgpack_pack_str_with_body(&packer, meta, sizeof(meta) - 1);
        msgpack_pack_fix_uint64(&packer, client_after(30));
        put_frame(sockets[FAR], &frame);
        check(serve_connection(&server, sockets[NEAR]) == SERVE_REARM, "not served");
        serve_ready(&server);
        take_frame(sockets[FAR]);
    }
}

static void run_client(const int *sockets, unsigned long count)
{
    struct client client = {.fd = sockets[NEAR]};
    msgpack_sbuffer params, frame;
    msgpack_packer packer;
    msgpack_sbuffer_init(&params);
    msgpack_sbuffer_init(&frame);
    msgpack_packer_init(&packer, &params, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 1);
    pack_payload(&packer);
    for (unsigned long i = 0; i < count; i++) {
        struct client_request request = {
            .method = "echo", .params = &params, .deadline = client_after(30), .give_up = client_after(31)};
        struct client_reply reply;
        begin_frame(&frame, &packer);
        msgpack_pack_array(&packer, 4);
        msgpack_pack_int(&packer, 1);
        msgpack_pack_fix_uint32(&packer, client.msgid + 1);
        msgpack_pack_nil(&packer);
        pack_payload(&packer);
        put_frame(sockets[FAR], &frame);
        check(client_call(&client, &request, &reply) == 0 && !reply.error, client.text);
        client_free_reply(&reply);
        take_frame(sockets[FAR]);
    }
}

int main(int argc, char **argv)
{
    int sockets[2];
    unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    check(count > 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0,
          "usage: guard server COUNT ENGINE | guard client COUNT");
    if (strcmp(argv[1], "server") == 0 && argc == 4)
        run_server(sockets, count, argv[3]);
    else
        run_client(sockets, count);
    return EXIT_SUCCESS;
}
