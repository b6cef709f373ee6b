#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "object.h"
#include "text.h"

static void put_method(const char *method)
{
    fputs("cohab: ", stderr);
    text_put_safe(stderr, method, strlen(method));
    fputs(": ", stderr);
}

int ask_tell_trouble(const struct client *client, const char *method)
{
    static const char *const kinds[] = {
        [CLIENT_FINE] = "",
        [CLIENT_UNREACHABLE] = "",
        [CLIENT_LOST] = "UNAVAILABLE: ",
        [CLIENT_LATE] = "DEADLINE_EXCEEDED: ",
        [CLIENT_CONFUSED] = "protocol error: ",
        [CLIENT_EXHAUSTED] = "",
    };

    if (client->trouble == CLIENT_UNREACHABLE)
        fputs("cohab: ", stderr);
    else
        put_method(method);
    fprintf(stderr, "%s%s\n", kinds[client->trouble], client->text);
    return client->trouble == CLIENT_UNREACHABLE ? CLI_NO_CONNECTION : CLI_CALL_FAILED;
}

static void put_text_or(const msgpack_object *map, const char *key, const char *otherwise)
{
    const msgpack_object *text = object_find_text(map, key);

    if (text)
        text_put_safe(stderr, text->via.str.ptr, text->via.str.size);
    else
        fputs(otherwise, stderr);
}

static void tell_details(const msgpack_object *details)
{
    static const char *const lines[] = {"signal", "report"};
    const msgpack_object *frames = object_find_array(details, "frames");
    const msgpack_object *output = object_find_text(details, "stderr");

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (!object_find(details, lines[i]))
            continue;
        fprintf(stderr, "  %s: ", lines[i]);
        object_put(stderr, details, lines[i]);
        fputc('\n', stderr);
    }
    if (frames && frames->via.array.size > 0) {
        fputs("  stack, innermost first:\n", stderr);
        frames_put(stderr, "    ", frames);
    }
    if (output && output->via.str.size > 0) {
        fputs("  stderr of the worker:\n", stderr);
        text_put_lines(stderr, "    ", output->via.str.ptr, output->via.str.size);
    }
}

/* Whether a message says by itself which method it speaks of: "... in suggest()". */
static bool names_method(const msgpack_object *message, const char *method)
{
    char *call = NULL;
    bool found = false;

    if (message && asprintf(&call, "%s()", method) >= 0)
        found = memmem(message->via.str.ptr, message->via.str.size, call, strlen(call)) != NULL;
    free(call);
    return found;
}

int ask_tell_error(const msgpack_object *error, const char *method)
{
    if (names_method(object_find_text(error, "message"), method))
        fputs("cohab: ", stderr);
    else
        put_method(method);
    put_text_or(error, "code", "UNKNOWN");
    if (object_find_text(error, "reason")) {
        fputs(" (", stderr);
        put_text_or(error, "reason", "");
        fputc(')', stderr);
    }
    fputs(": ", stderr);
    put_text_or(error, "message", "the server gave no message");
    fputc('\n', stderr);
    tell_details(object_find(error, "details"));
    return CLI_CALL_FAILED;
}

int ask_tell_unknown(const char *method)
{
    put_method(method);
    fputs("protocol error: the answer has a form that cohab " COHAB_VERSION " does not know\n", stderr);
    return CLI_CALL_FAILED;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int ask(const struct cli *cli, const struct ask_question *question, struct client *client,
        struct client_reply *reply)
{
    uint64_t deadline = client_after(question->timeout);
    struct client_request request = {.method = question->method,
                                     .params = question->params,
                                     .deadline = deadline,
                                     .give_up = deadline + ASK_PATIENCE};

    *reply = (struct client_reply){0};
    if (client_connect(client, cli->socket, question->admin, earlier(deadline, client_after(ASK_QUICK))) <
            0 ||
        client_call(client, &request, reply) < 0)
        return ask_tell_trouble(client, question->method);
    if (reply->error)
        return ask_tell_error(reply->error, question->method);
    return CLI_OK;
}

int ask_once(const struct cli *cli, const struct ask_question *question, struct client_reply *reply)
{
    struct client client;
    int exit_code = ask(cli, question, &client, reply);

    client_close(&client);
    return exit_code;
}
