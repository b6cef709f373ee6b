#include "params.h"

#include <stdio.h>
#include <string.h>

#include "json.h"
#include "object.h"
#include "usage.h"

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

void params_read(const struct cli *cli, msgpack_sbuffer *params, int count, char **arguments)
{
    msgpack_packer packer;

    object_packer_init(&packer, params);
    if (count == 1 && strcmp(arguments[0], "-") == 0)
        read_standard_input(cli, &packer);
    else
        read_arguments(cli, &packer, count, arguments);
}
