/* Shows what the admin method "ps" answers, part by part. The server does not read requests: it sends their
 * first bytes, which are read here. Every field is optional. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "envelope.h"
#include "json.h"
#include "object.h"
#include "pack.h"
#include "rows.h"
#include "text.h"
#include "usage.h"

#define METHOD "ps"
/* Of a method's name, in the table. */
#define NAME_SHOWN 64

/* --- from the server's answers to one document --- */

/* The document's two arrays, as they grow. */
struct lists {
    msgpack_sbuffer running, waiting;
    uint32_t running_count, waiting_count;
};

/* As far as the first bytes of the frame go: method NULL, has_... false where they do not. */
static void read_head(const msgpack_object *entry, struct envelope_request *request)
{
    const msgpack_object *head = object_find(entry, "head");
    const char *why;

    *request = (struct envelope_request){0};
    if (!head || head->type != MSGPACK_OBJECT_BIN || head->via.bin.size < FRAME_HEADER_SIZE)
        return;
    const unsigned char *frame = (const unsigned char *)head->via.bin.ptr;
    size_t have = head->via.bin.size - FRAME_HEADER_SIZE, length = frame_get_length(frame);
    (void)envelope_read_request(frame + FRAME_HEADER_SIZE, length < have ? length : have, request, &why);
}

static void pack_field(msgpack_packer *packer, const msgpack_object *entry, const char *key)
{
    const msgpack_object *value = object_find(entry, key);

    pack_text(packer, key);
    if (value)
        msgpack_pack_object(packer, *value);
    else
        msgpack_pack_nil(packer);
}

static void pack_seconds(msgpack_packer *packer, const char *key, double seconds)
{
    pack_text(packer, key);
    if (isnan(seconds))
        msgpack_pack_nil(packer);
    else
        msgpack_pack_double(packer, seconds);
}

/* From the client's word until then; NAN where it gave none. */
static double queued(const struct envelope_request *request, double until)
{
    double seconds = until - (double)request->sent / 1e9;

    return !request->has_sent ? NAN : seconds > 0 ? seconds : 0;
}

static double deadline_left(const struct envelope_request *request, double now)
{
    if (request->has_deadline)
        return (double)request->deadline / 1e9 - now;
    return request->has_timeout ? request->timeout : NAN;
}

static void add_running(struct lists *lists, const msgpack_object *entry)
{
    static const char *const keys[] = {"worker",   "pid",     "request", "method",        "msgid", "peer_pid",
                                       "peer_uid", "running", "queued",  "deadline_left", "ending"};
    msgpack_packer packer;

    object_packer_init(&packer, &lists->running);
    msgpack_pack_map(&packer, sizeof keys / sizeof keys[0]);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        pack_field(&packer, entry, keys[i]);
    lists->running_count++;
}

static void add_waiting(struct lists *lists, const msgpack_object *entry, double now)
{
    struct envelope_request request;
    msgpack_packer packer;

    read_head(entry, &request);
    object_packer_init(&packer, &lists->waiting);
    msgpack_pack_map(&packer, 7);
    pack_text(&packer, "method");
    if (request.method && text_is_utf8(request.method, request.method_length))
        object_pack_text(&packer, request.method, request.method_length);
    else
        msgpack_pack_nil(&packer);
    pack_text(&packer, "msgid");
    if (request.has_msgid)
        msgpack_pack_uint32(&packer, request.msgid);
    else
        msgpack_pack_nil(&packer);
    pack_field(&packer, entry, "peer_pid");
    pack_field(&packer, entry, "peer_uid");
    pack_field(&packer, entry, "bytes");
    pack_seconds(&packer, "queued", queued(&request, now));
    pack_seconds(&packer, "deadline_left", deadline_left(&request, now));
    lists->waiting_count++;
}

/* Returns CLI_OK, with the part after this one in *next; 0: that was the last. */
static int add_part(struct lists *lists, const msgpack_object *answer, uint32_t *next)
{
    const msgpack_object *running = object_find_array(answer, "running");
    const msgpack_object *waiting = object_find_array(answer, "waiting");
    double now = 0, part = 0;

    if (!running || !waiting)
        return ask_tell_unknown(METHOD);
    object_find_number(answer, "now", &now);
    now /= 1e9;
    for (uint32_t i = 0; i < running->via.array.size; i++)
        add_running(lists, &running->via.array.ptr[i]);
    for (uint32_t i = 0; i < waiting->via.array.size; i++)
        add_waiting(lists, &waiting->via.array.ptr[i], now);
    object_find_number(answer, "next", &part);
    *next = part > *next ? (uint32_t)part : 0;
    return CLI_OK;
}

static int ask_part(const struct cli *cli, struct lists *lists, uint32_t *next)
{
    msgpack_sbuffer params;
    msgpack_packer packer;
    struct client_reply reply;

    msgpack_sbuffer_init(&params);
    object_packer_init(&packer, &params);
    msgpack_pack_array(&packer, 1);
    msgpack_pack_uint32(&packer, *next);
    int exit_code = ask_once(
        cli, &(struct ask_question){.method = METHOD, .admin = true, .params = &params, .timeout = ASK_QUICK},
        &reply);
    if (exit_code == CLI_OK)
        exit_code = add_part(lists, reply.result, next);
    client_free_reply(&reply);
    msgpack_sbuffer_destroy(&params);
    return exit_code;
}

static void pack_array(msgpack_sbuffer *document, const char *key, const msgpack_sbuffer *items,
                       uint32_t count)
{
    msgpack_packer packer;

    object_packer_init(&packer, document);
    pack_text(&packer, key);
    msgpack_pack_array(&packer, count);
    if (count > 0)
        packer.callback(packer.data, items->data, items->size);
}

static void pack_document(msgpack_sbuffer *document, const struct lists *lists)
{
    msgpack_packer packer;

    object_packer_init(&packer, document);
    msgpack_pack_map(&packer, 3);
    pack_text(&packer, "version");
    msgpack_pack_int(&packer, 1);
    pack_array(document, "running", &lists->running, lists->running_count);
    pack_array(document, "waiting", &lists->waiting, lists->waiting_count);
}

/* --- for people --- */

static void put_field(FILE *out, const msgpack_object *entry, const char *key, const char *after)
{
    object_put(out, entry, key);
    fputs(after, out);
}

static void put_seconds(FILE *out, const msgpack_object *entry, const char *key, const char *after)
{
    object_put_seconds(out, entry, key);
    fputs(after, out);
}

static void put_name(FILE *out, const msgpack_object *entry)
{
    const msgpack_object *method = object_find_text(entry, "method");

    if (method)
        text_put_cut(out, method->via.str.ptr, method->via.str.size, NAME_SHOWN);
    else
        fputc('-', out);
    fputc('\t', out);
}

static void put_state(FILE *out, const msgpack_object *entry)
{
    static const struct {
        const char *ending, *words;
    } states[] = {{"client_gone", "client gone"}, {"deadline", "past deadline"}, {"killed", "being killed"}};
    const msgpack_object *ending = object_find_text(entry, "ending");

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (object_is_text(ending, states[i].ending)) {
            text_paint(out, TEXT_YELLOW, states[i].words);
            return;
        }
    text_paint(out, TEXT_GREEN, "running");
}

static void put_call(FILE *out, const msgpack_object *entry, bool runs)
{
    if (runs) {
        put_field(out, entry, "worker", "\t");
        put_field(out, entry, "pid", "/");
        put_field(out, entry, "request", "\t");
        put_state(out, entry);
    } else {
        fputs("-\t-\twaiting", out);
    }
    fputc('\t', out);
    put_name(out, entry);
    put_field(out, entry, "msgid", "\t");
    put_field(out, entry, "peer_pid", "\t");
    put_field(out, entry, "peer_uid", "\t");
    put_seconds(out, entry, "running", "\t");
    put_seconds(out, entry, "queued", "\t");
    put_seconds(out, entry, "deadline_left", "\n");
}

static void print_table(const msgpack_object *document)
{
    static const char *const heading[] = {"WORKER", "CALL",    "STATE",  "METHOD", "MSGID", "PEER",
                                          "UID",    "RUNNING", "QUEUED", "LEFT",   NULL};
    static const char *const keys[] = {"running", "waiting"};
    struct rows rows;

    rows_begin(&rows, METHOD);
    rows_put_heading(&rows, heading);
    for (int i = 0; i < 2; i++) {
        const msgpack_object *list = object_find_array(document, keys[i]);
        for (uint32_t j = 0; j < list->via.array.size; j++)
            put_call(rows.out, &list->via.array.ptr[j], i == 0);
    }
    rows_print(&rows, "rlllrrrrrr");
}

static int print_document(const struct lists *lists, bool json)
{
    msgpack_sbuffer document;
    msgpack_unpacked unpacked;
    size_t offset = 0;

    msgpack_sbuffer_init(&document);
    pack_document(&document, lists);
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, document.data, document.size, &offset) != MSGPACK_UNPACK_SUCCESS) {
        fputs("cohab: out of memory\n", stderr);
        exit(CLI_CALL_FAILED);
    }
    text_allow_colours(stdout);
    if (json)
        json_print(stdout, &unpacked.data);
    else if (lists->running_count + lists->waiting_count > 0)
        print_table(&unpacked.data);
    else
        puts("nothing runs, and nothing waits");
    msgpack_unpacked_destroy(&unpacked);
    msgpack_sbuffer_destroy(&document);
    return CLI_OK;
}

int ps_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print the list as JSON, for programs", .on = &json},
        {0},
    };
    struct lists lists = {.running_count = 0};
    uint32_t next = 0;
    int exit_code;

    usage_read(cli, options, argc, argv);
    msgpack_sbuffer_init(&lists.running);
    msgpack_sbuffer_init(&lists.waiting);
    do
        exit_code = ask_part(cli, &lists, &next);
    while (exit_code == CLI_OK && next > 0);
    if (exit_code == CLI_OK)
        exit_code = print_document(&lists, json);
    msgpack_sbuffer_destroy(&lists.running);
    msgpack_sbuffer_destroy(&lists.waiting);
    return exit_code;
}
