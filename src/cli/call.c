#include <stdio.h>

#include "ask.h"
#include "json.h"
#include "params.h"
#include "usage.h"

#define DEFAULT_TIMEOUT 30.0

static int call_and_print(const struct cli *cli, const struct ask_question *question)
{
    struct client_reply reply;
    int exit_code = ask_once(cli, question, &reply);

    if (exit_code == CLI_OK)
        json_print(stdout, reply.result);
    client_free_reply(&reply);
    return exit_code;
}

int call_run(struct cli *cli, int argc, char **argv)
{
    double timeout = DEFAULT_TIMEOUT;
    const struct usage_option options[] = {
        {.name = "--timeout",
         .value = "S",
         .help = "seconds until the call is given up (default: 30)",
         .seconds = &timeout},
        {0},
    };
    msgpack_sbuffer params;

    int count = usage_read(cli, options, argc, argv);
    if (count == 0)
        usage_fail(cli, "no method is named");
    msgpack_sbuffer_init(&params);
    params_read(cli, &params, count - 1, argv + 1);
    int exit_code =
        call_and_print(cli, &(struct ask_question){.method = argv[0], .params = &params, .timeout = timeout});
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
