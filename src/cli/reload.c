/* Reloads the engine: the server answers when the last worker is replaced, or when it has gone back. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "json.h"
#include "object.h"
#include "pack.h"
#include "text.h"
#include "usage.h"

#define METHOD "reload"
/* Seconds: the server's own --load-timeout ends what hangs. */
#define TIMEOUT 86400.0

/* The server looks from its own directory. */
static char *absolute(const char *engine)
{
    char *directory = *engine != '/' && strchr(engine, '/') ? getcwd(NULL, 0) : NULL, *path = NULL;

    if (!directory)
        return strdup(engine);
    if (asprintf(&path, "%s/%s", directory, engine) < 0)
        path = NULL;
    free(directory);
    return path;
}

static bool is_done(const msgpack_object *result)
{
    const msgpack_object *done = object_find(result, "done");
    return done && done->type == MSGPACK_OBJECT_BOOLEAN && done->via.boolean;
}

static void print_done(const msgpack_object *result)
{
    printf("generation ");
    object_put(stdout, result, "generation");
    printf(" serves: ");
    object_put(stdout, result, "engine");
    putchar(' ');
    object_put(stdout, result, "engine_version");
    printf(", ");
    object_put(stdout, result, "replaced");
    printf(" workers replaced in ");
    object_put_seconds(stdout, result, "duration");
    putchar('\n');
}

static void print_failed(const msgpack_object *result)
{
    const msgpack_object *output = object_find_text(result, "output");

    fputs("cohab: reload failed: ", stderr);
    object_put(stderr, result, "problem");
    fputs("; generation ", stderr);
    object_put(stderr, result, "generation");
    fputs(" goes on\n", stderr);
    if (!output || output->via.str.size == 0)
        return;
    fputs("what it printed last:\n", stderr);
    for (uint32_t at = 0; at < output->via.str.size;) {
        const char *line = output->via.str.ptr + at;
        const char *end = memchr(line, '\n', output->via.str.size - at);
        size_t length = end ? (size_t)(end - line) : output->via.str.size - at;
        fputs("  ", stderr);
        text_put_safe(stderr, line, length);
        fputc('\n', stderr);
        at += (uint32_t)length + 1;
    }
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

static void pack_params(msgpack_packer *packer, const char *engine, int count, char **arguments)
{
    msgpack_pack_array(packer, engine ? (size_t)count + 1 : 0);
    if (!engine)
        return;
    pack_text(packer, engine);
    for (int i = 0; i < count; i++)
        pack_text(packer, arguments[i]);
}

int reload_run(struct cli *cli, int argc, char **argv)
{
    const char *engine = NULL;
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--engine",
         .value = "ENGINE",
         .help = "serve this engine from now on, with the ARGs",
         .text = &engine},
        {.name = "--json", .help = "print what came of it as JSON, for programs", .on = &json},
        {0},
    };
    msgpack_sbuffer params;
    msgpack_packer packer;
    struct client_reply reply;

    int count = usage_read(cli, options, argc, argv);
    if (count > 0 && !engine)
        usage_fail(cli, "engine arguments need --engine");
    char *path = engine ? absolute(engine) : NULL;
    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    pack_params(&packer, path, count, argv);
    free(path);
    int exit_code = ask_once(
        cli, &(struct ask_question){.method = METHOD, .admin = true, .params = &params, .timeout = TIMEOUT},
        &reply);
    if (exit_code == CLI_OK)
        exit_code = print_result(reply.result, json);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
