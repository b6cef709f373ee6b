#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "json.h"
#include "object.h"
#include "usage.h"

#define DEFAULT_TIMEOUT 30.0

static void read_standard_input(const struct cli *cli, msgpack_packer *packer)
{
    char why[200];

    if (json_pack_array(packer, stdin, why, sizeof why) < 0)
        usage_fail(cli, "standard input: %s", why);
}

static void read_arguments(const struct cli *cli, msgpack_packer *packer, int count, char **arguments)
{
    char why[200];

    msgpack_pack_array(packer, (size_t)count);
    for (int i = 0; i < count; i++) {
        if (strcmp(arguments[i], "-") == 0)
            usage_fail(cli, "a - for standard input stands alone; the string is written '\"-\"'");
        if (json_pack_argument(packer, arguments[i], why, sizeof why) < 0)
            usage_fail(cli, "argument %d: %s", i + 1, why);
    }
}

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
    msgpack_packer packer;

    int count = usage_read(cli, options, argc, argv);
    if (count == 0)
        usage_fail(cli, "no method is named");
    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    if (count == 2 && strcmp(argv[1], "-") == 0)
        read_standard_input(cli, &packer);
    else
        read_arguments(cli, &packer, count - 1, argv + 1);
    int exit_code =
        call_and_print(cli, &(struct ask_question){.method = argv[0], .params = &params, .timeout = timeout});
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
