/* The requests that the server refuses, as they have killed workers. Every field of the answers is optional
 * here. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "commands.h"
#include "json.h"
#include "object.h"
#include "pack.h"
#include "rows.h"
#include "text.h"
#include "usage.h"

#define LIST_METHOD  "quarantine_list"
#define CLEAR_METHOD "quarantine_clear"

/* --- list --- */

static void put_reports(FILE *out, const msgpack_object *reports)
{
    for (uint32_t i = 0; reports && i < reports->via.array.size; i++) {
        const msgpack_object *report = &reports->via.array.ptr[i];
        if (i > 0)
            fputc(' ', out);
        if (report->type == MSGPACK_OBJECT_STR)
            text_put_safe(out, report->via.str.ptr, report->via.str.size);
    }
    fputs(reports && reports->via.array.size > 0 ? "\n" : "-\n", out);
}

static void put_entry(FILE *out, const msgpack_object *entry)
{
    const msgpack_object *quarantined = object_find(entry, "quarantined");
    bool refused = quarantined && quarantined->type == MSGPACK_OBJECT_BOOLEAN && quarantined->via.boolean;

    object_put(out, entry, "hash");
    fputc('\t', out);
    object_put(out, entry, "method");
    fputc('\t', out);
    object_put(out, entry, "kills");
    fputc('\t', out);
    if (refused)
        text_paint(out, TEXT_YELLOW, "refused");
    else
        fputs("watched", out);
    fputc('\t', out);
    object_put_seconds(out, entry, "last");
    fputs(" ago\t", out);
    put_reports(out, object_find_array(entry, "reports"));
}

static void print_rule(const msgpack_object *list)
{
    double after = 0;

    if (object_find_number(list, "after", &after) && after > 0)
        printf("requests are refused after %.0f deaths\n", after);
    else
        puts("off: no request is refused (cohabd --quarantine-after)");
}

static int print_list(const msgpack_object *list, bool json)
{
    static const char *const heading[] = {"HASH", "METHOD", "DEATHS", "STATE", "LAST", "REPORTS", NULL};
    const msgpack_object *entries = object_find_array(list, "entries");
    struct rows rows;

    if (!entries)
        return ask_tell_unknown(LIST_METHOD);
    if (json) {
        json_print(stdout, list);
        return CLI_OK;
    }
    text_allow_colours(stdout);
    print_rule(list);
    if (entries->via.array.size == 0) {
        puts("no request has killed a worker");
        return CLI_OK;
    }
    rows_begin(&rows, LIST_METHOD);
    rows_put_heading(&rows, heading);
    for (uint32_t i = 0; i < entries->via.array.size; i++)
        put_entry(rows.out, &entries->via.array.ptr[i]);
    putchar('\n');
    rows_print(&rows, "llrlrl");
    return CLI_OK;
}

static int list_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print the list as JSON, for programs", .on = &json},
        {0},
    };
    struct client_reply reply;

    usage_read(cli, options, argc, argv);
    int exit_code = ask_once(
        cli, &(struct ask_question){.method = LIST_METHOD, .admin = true, .timeout = ASK_QUICK}, &reply);
    if (exit_code == CLI_OK)
        exit_code = print_list(reply.result, json);
    client_free_reply(&reply);
    return exit_code;
}

/* --- clear --- */

static int print_cleared(const msgpack_object *answer)
{
    double cleared;

    if (!object_find_number(answer, "cleared", &cleared))
        return ask_tell_unknown(CLEAR_METHOD);
    printf("%.0f %s forgotten\n", cleared, cleared == 1 ? "request" : "requests");
    return CLI_OK;
}

static int clear_run(struct cli *cli, int argc, char **argv)
{
    const struct usage_option options[] = {{0}};
    msgpack_sbuffer params;
    msgpack_packer packer;
    struct client_reply reply;

    int count = usage_read(cli, options, argc, argv);
    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    msgpack_pack_array(&packer, (size_t)count);
    for (int i = 0; i < count; i++)
        pack_text(&packer, argv[i]);
    int exit_code =
        ask_once(cli,
                 &(struct ask_question){
                     .method = CLEAR_METHOD, .admin = true, .params = &params, .timeout = ASK_QUICK},
                 &reply);
    if (exit_code == CLI_OK)
        exit_code = print_cleared(reply.result);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}

/* --- both --- */

static const struct cli_command commands[] = {
    {.name = "quarantine list",
     .summary = "list requests that have killed workers",
     .help = "Lists requests that have killed workers, and tells which of them are refused by now.",
     .run = list_run},
    {.name = "quarantine clear",
     .arguments = "[WORD ...]",
     .summary = "let such requests run again",
     .help = "Forgets requests, so that they may run again: all of them, or those that a WORD names. A WORD "
             "is a\n"
             "HASH of cohab quarantine list, or the id of a report.",
     .run = clear_run},
};

int quarantine_run(struct cli *cli, int argc, char **argv)
{
    return commands_run(cli, commands, sizeof commands / sizeof commands[0], argc, argv);
}
