/* Has the server go on as the program that lies in its place now. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "json.h"
#include "object.h"
#include "output_lines.h"
#include "usage.h"

#define METHOD "upgrade"
/* Seconds: the server's own --load-timeout ends a check that hangs. */
#define TIMEOUT 86400.0

static bool is_done(const msgpack_object *result)
{
    const msgpack_object *done = object_find(result, "done");
    return done && done->type == MSGPACK_OBJECT_BOOLEAN && done->via.boolean;
}

static void print_done(const msgpack_object *result)
{
    printf("version ");
    object_put(stdout, result, "version_before");
    printf(" -> ");
    object_put(stdout, result, "version_after");
    printf(", pid ");
    object_put(stdout, result, "pid");
    printf(", in ");
    object_put_seconds(stdout, result, "duration");
    putchar('\n');
}

static void print_failed(const msgpack_object *result)
{
    fputs("cohab: no upgrade: ", stderr);
    object_put(stderr, result, "problem");
    fputs("; version ", stderr);
    object_put(stderr, result, "version_before");
    fputs(" goes on\n", stderr);
    output_lines_print(object_find_text(result, "output"));
}

static int print_result(const msgpack_object *result, bool json)
{
    if (result->type != MSGPACK_OBJECT_MAP)
        return ask_tell_unknown(METHOD);
    if (json)
        json_print(stdout, result);
    else if (is_done(result))
        print_done(result);
    else
        print_failed(result);
    return is_done(result) ? CLI_OK : CLI_CALL_FAILED;
}

int upgrade_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print what came of it as JSON, for programs", .on = &json},
        {0},
    };
    struct client_reply reply;

    if (usage_read(cli, options, argc, argv) > 0)
        usage_fail(cli, "upgrade takes no parameters");
    int exit_code =
        ask_once(cli, &(struct ask_question){.method = METHOD, .admin = true, .timeout = TIMEOUT}, &reply);
    if (exit_code == CLI_OK)
        exit_code = print_result(reply.result, json);
    client_free_reply(&reply);
    return exit_code;
}
