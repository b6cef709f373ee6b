/* Prints what the admin method "metrics" answers: text in the Prometheus format, as it is. */
#include <stdio.h>

#include "ask.h"
#include "usage.h"

#define METHOD "metrics"

static int print_metrics(const msgpack_object *text)
{
    if (text->type != MSGPACK_OBJECT_STR)
        return ask_tell_unknown(METHOD);
    fwrite(text->via.str.ptr, 1, text->via.str.size, stdout);
    return CLI_OK;
}

int metrics_run(struct cli *cli, int argc, char **argv)
{
    const struct usage_option options[] = {{0}};
    struct client_reply reply;

    usage_read(cli, options, argc, argv);
    int exit_code =
        ask_once(cli, &(struct ask_question){.method = METHOD, .admin = true, .timeout = ASK_QUICK}, &reply);
    if (exit_code == CLI_OK)
        exit_code = print_metrics(reply.result);
    client_free_reply(&reply);
    return exit_code;
}
