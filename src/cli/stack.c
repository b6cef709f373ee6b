/* Shows what the admin method "stack" answers. Every field is optional here. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "frames.h"
#include "json.h"
#include "object.h"
#include "text.h"
#include "usage.h"

#define METHOD "stack"
/* Seconds: workers are asked, and symbols looked up. */
#define PATIENCE 15.0

static void print_heading(const msgpack_object *worker)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);

    if (!out)
        return;
    fputs("worker ", out);
    object_put(out, worker, "number");
    fputs(" (pid ", out);
    object_put(out, worker, "pid");
    fputs(") ", out);
    object_put(out, worker, "method");
    fputs("() for ", out);
    object_put_seconds(out, worker, "running");
    fclose(out);
    text_paint(stdout, TEXT_BOLD, line);
    putchar('\n');
    free(line);
}

static void print_worker(const msgpack_object *worker)
{
    const msgpack_object *stack = object_find_array(worker, "stack");

    print_heading(worker);
    if (stack && stack->via.array.size > 0) {
        frames_put(stdout, "  ", stack);
    } else {
        fputs("  ", stdout);
        frames_put_absence(stdout, worker);
    }
}

static int print_stacks(const msgpack_object *answer, bool json, bool one)
{
    const msgpack_object *workers = object_find_array(answer, "workers");

    if (!workers)
        return ask_tell_unknown(METHOD);
    if (json) {
        json_print(stdout, answer);
        return CLI_OK;
    }
    text_allow_colours(stdout);
    if (workers->via.array.size == 0)
        puts(one ? "the worker is not busy" : "no worker is busy");
    for (uint32_t i = 0; i < workers->via.array.size; i++) {
        if (i > 0)
            putchar('\n');
        print_worker(&workers->via.array.ptr[i]);
    }
    return CLI_OK;
}

static unsigned long read_number(const struct cli *cli, const char *word)
{
    char *end;

    errno = 0;
    unsigned long number = strtoul(word, &end, 10);
    if (errno || *end || *word < '0' || *word > '9')
        usage_fail(cli, "'%s' is not the number of a worker", word);
    return number;
}

static void pack_params(const struct cli *cli, msgpack_sbuffer *params, int count, char **words)
{
    msgpack_packer packer;

    if (count > 1)
        usage_fail(cli, "it takes one worker, or none for all");
    msgpack_sbuffer_init(params);
    object_packer_init(&packer, params);
    msgpack_pack_array(&packer, (size_t)count);
    if (count == 1)
        msgpack_pack_unsigned_long(&packer, read_number(cli, words[0]));
}

int stack_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print the stacks as JSON, for programs", .on = &json},
        {0},
    };
    msgpack_sbuffer params;
    struct client_reply reply;

    int count = usage_read(cli, options, argc, argv);
    pack_params(cli, &params, count, argv);
    int exit_code = ask_once(
        cli, &(struct ask_question){.method = METHOD, .admin = true, .params = &params, .timeout = PATIENCE},
        &reply);
    if (exit_code == CLI_OK)
        exit_code = print_stacks(reply.result, json, count == 1);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
