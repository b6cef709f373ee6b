#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "ask.h"
#include "object.h"
#include "usage.h"

/* On a terminal somebody waits for it; elsewhere the exit code says it. */
static void tell_person(const char *line)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "%s\n", line);
}

/* The server keeps the admin connection until it ends, so that the end of the one is the end of the other. */
static int stop_and_wait(const struct cli *cli, const msgpack_sbuffer *params, bool now)
{
    struct client client;
    struct client_reply reply;
    const struct ask_question question = {
        .method = "stop", .admin = true, .params = params, .timeout = ASK_QUICK};

    int exit_code = ask(cli, &question, &client, &reply);
    if (exit_code == CLI_OK) {
        tell_person(now ? "cohabd is stopping" : "cohabd is stopping; running calls may finish first");
        client_wait_closed(&client);
        tell_person("cohabd has stopped");
    }
    client_close(&client);
    client_free_reply(&reply);
    return exit_code;
}

int stop_run(struct cli *cli, int argc, char **argv)
{
    bool now = false;
    const struct usage_option options[] = {
        {.name = "--now", .help = "do not wait for running calls", .on = &now},
        {0},
    };
    msgpack_sbuffer params;
    msgpack_packer packer;

    usage_read(cli, options, argc, argv);
    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    msgpack_pack_array(&packer, 1);
    now ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer);
    int exit_code = stop_and_wait(cli, &params, now);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
