/* Sets how many workers there are. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "object.h"
#include "usage.h"

#define METHOD "scale"

/* "4" or "2:8"; the server knows what it can have. */
static bool read_bounds(const char *text, unsigned long *min, unsigned long *max)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    *min = *max = strtoul(text, &end, 10);
    if (*end == ':' && isdigit((unsigned char)end[1]))
        *max = strtoul(end + 1, &end, 10);
    return *end == '\0' && *min >= 1 && *max >= *min;
}

static int print_result(const msgpack_object *result)
{
    double before = 0, workers = 0, min = 0, max = 0;
    if (!object_find_number(result, "workers_before", &before) ||
        !object_find_number(result, "workers", &workers) ||
        !object_find_number(result, "workers_min", &min) || !object_find_number(result, "workers_max", &max))
        return ask_tell_unknown(METHOD);
    printf("%.0f workers, before %.0f", workers, before);
    if (max > min)
        printf("; from %.0f to %.0f, as the load needs", min, max);
    putchar('\n');
    return CLI_OK;
}

int scale_run(struct cli *cli, int argc, char **argv)
{
    const struct usage_option options[] = {{0}};
    unsigned long min, max;
    msgpack_sbuffer params;
    msgpack_packer packer;
    struct client_reply reply;

    int count = usage_read(cli, options, argc, argv);
    if (count != 1)
        usage_fail(cli, "scale takes a number of workers, or two such as 2:8");
    if (!read_bounds(argv[0], &min, &max))
        usage_fail(cli, "'%s' is no number of workers, and not two such as 2:8", argv[0]);
    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_unsigned_long(&packer, min);
    msgpack_pack_unsigned_long(&packer, max);
    int exit_code = ask_once(
        cli, &(struct ask_question){.method = METHOD, .admin = true, .params = &params, .timeout = ASK_QUICK},
        &reply);
    if (exit_code == CLI_OK)
        exit_code = print_result(reply.result);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
