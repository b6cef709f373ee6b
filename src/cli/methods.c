#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "json.h"
#include "object.h"
#include "text.h"
#include "usage.h"

#define METHOD "cohab.methods"

/* The signature, which contains the name. Owned by the caller; NULL when memory is out. */
static char *format_signature(const msgpack_object *method)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    object_put(out, method, object_find_text(method, "signature") ? "signature" : "name");
    fclose(out);
    return text;
}

static size_t measure_signatures(const msgpack_object_array *methods)
{
    size_t widest = 0;

    for (uint32_t i = 0; i < methods->size; i++) {
        char *signature = format_signature(&methods->ptr[i]);
        size_t width = signature ? text_width(signature) : 0;
        widest = width > widest ? width : widest;
        free(signature);
    }
    return widest;
}

static void put_flags(const msgpack_object_array *flags)
{
    for (uint32_t i = 0; i < flags->size; i++) {
        fputs(i > 0 ? ", " : "  ", stdout);
        if (flags->ptr[i].type == MSGPACK_OBJECT_STR)
            text_put_safe(stdout, flags->ptr[i].via.str.ptr, flags->ptr[i].via.str.size);
    }
}

/* The signature and the flags, and the description below them: signatures are too long to have it beside
 * them. */
static void put_method(const msgpack_object *method, size_t width)
{
    const msgpack_object *flags = object_find_array(method, "flags");
    const msgpack_object *doc = object_find_text(method, "doc");
    char *signature = format_signature(method);

    if (!signature)
        return;
    text_paint(stdout, TEXT_BOLD, signature);
    if (flags && flags->via.array.size > 0) {
        printf("%*s", (int)(width - text_width(signature)), "");
        put_flags(&flags->via.array);
    }
    putchar('\n');
    if (doc)
        text_put_lines(stdout, "    ", doc->via.str.ptr, doc->via.str.size);
    free(signature);
}

static int print_methods(const msgpack_object *list, bool json)
{
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return ask_tell_unknown(METHOD);
    if (json) {
        json_print(stdout, list);
        return CLI_OK;
    }
    size_t width = measure_signatures(&list->via.array);
    text_allow_colours(stdout);
    for (uint32_t i = 0; i < list->via.array.size; i++)
        put_method(&list->via.array.ptr[i], width);
    return CLI_OK;
}

int methods_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print the list as JSON", .on = &json},
        {0},
    };
    struct client_reply reply;

    usage_read(cli, options, argc, argv);
    int exit_code = ask_once(cli, &(struct ask_question){.method = METHOD, .timeout = ASK_QUICK}, &reply);
    if (exit_code == CLI_OK)
        exit_code = print_methods(reply.result, json);
    client_free_reply(&reply);
    return exit_code;
}
