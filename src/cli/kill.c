/* Ends running calls, by the admin methods "kill", "kill_call" and "kill_peer". */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "object.h"
#include "usage.h"

/* What is to end. */
struct target {
    const char *method, *word;
    uint64_t numbers[2];
    int count;
};

/* Reads a number from 1 on. Returns what is behind it; NULL where there is none. */
static const char *read_number(const char *word, uint64_t *number)
{
    char *end;

    errno = 0;
    unsigned long value = strtoul(word, &end, 10);
    *number = value;
    return errno || *word < '0' || *word > '9' || value == 0 ? NULL : end;
}

static void read_call(const struct cli *cli, const char *word, struct target *target)
{
    *target = (struct target){.method = "kill", .word = word, .count = 1};
    const char *rest = read_number(word, &target->numbers[0]);

    if (rest && *rest == '/') {
        rest = read_number(rest + 1, &target->numbers[1]);
        target->method = "kill_call";
        target->count = 2;
    }
    if (!rest || *rest)
        usage_fail(cli, "'%s' is neither the number of a worker nor a CALL of cohab ps", word);
}

static void read_peer(const struct cli *cli, const char *word, struct target *target)
{
    *target = (struct target){.method = "kill_peer", .word = word, .count = 1};
    const char *rest = read_number(word, &target->numbers[0]);

    if (!rest || *rest)
        usage_fail(cli, "--peer takes a process id, not '%s'", word);
}

static void pack_numbers(msgpack_sbuffer *params, const struct target *target)
{
    msgpack_packer packer;

    msgpack_sbuffer_init(params);
    object_packer_init(&packer, params);
    msgpack_pack_array(&packer, (size_t)target->count);
    for (int i = 0; i < target->count; i++)
        msgpack_pack_uint64(&packer, target->numbers[i]);
}

static void print_call(const msgpack_object *call)
{
    fputs("worker ", stdout);
    object_put(stdout, call, "worker");
    fputs(": ending ", stdout);
    object_put(stdout, call, "method");
    fputs("() of pid ", stdout);
    object_put(stdout, call, "peer_pid");
    fputs(" after ", stdout);
    object_put_seconds(stdout, call, "running");
    putchar('\n');
}

static int print_calls(const msgpack_object *answer, const struct target *target)
{
    const msgpack_object *calls = object_find_array(answer, "calls");

    if (!calls)
        return ask_tell_unknown(target->method);
    for (uint32_t i = 0; i < calls->via.array.size; i++)
        print_call(&calls->via.array.ptr[i]);
    if (calls->via.array.size > 0)
        return CLI_OK;
    if (strcmp(target->method, "kill_peer") == 0)
        fprintf(stderr, "cohab: kill: no call of pid %s is running; see cohab ps\n", target->word);
    else if (strcmp(target->method, "kill_call") == 0)
        fprintf(stderr, "cohab: kill: call %s is not running; see cohab ps\n", target->word);
    else
        fprintf(stderr, "cohab: kill: worker %s is not running a call; see cohab ps\n", target->word);
    return CLI_CALL_FAILED;
}

int kill_run(struct cli *cli, int argc, char **argv)
{
    const char *peer = NULL;
    const struct usage_option options[] = {
        {.name = "--peer", .value = "PID", .help = "all running calls of this client process", .text = &peer},
        {0},
    };
    struct target target;
    msgpack_sbuffer params;
    struct client_reply reply;

    int words = usage_read(cli, options, argc, argv);
    if (words != (peer ? 0 : 1))
        usage_fail(cli, "it takes one WORKER, one CALL, or --peer PID");
    if (peer)
        read_peer(cli, peer, &target);
    else
        read_call(cli, argv[0], &target);
    pack_numbers(&params, &target);
    int exit_code =
        ask_once(cli,
                 &(struct ask_question){
                     .method = target.method, .admin = true, .params = &params, .timeout = ASK_QUICK},
                 &reply);
    if (exit_code == CLI_OK)
        exit_code = print_calls(reply.result, &target);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}
