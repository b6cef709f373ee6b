#include "replay_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>

#include "cli.h"
#include "object.h"

/* Of a report. */
#define OPTIONS_MAX 8u

static noreturn void fail(void)
{
    fputs("cohab: out of memory\n", stderr);
    exit(CLI_CALL_FAILED);
}

static char *copy_text(const msgpack_object *text)
{
    char *copy = strndup(text->via.str.ptr, text->via.str.size);

    if (!copy)
        fail();
    return copy;
}

void replay_command_add(struct replay_command *command, const char *word)
{
    command->words[command->count++] = (char *)word;
}

struct replay_command replay_command_begin(const msgpack_object *report)
{
    const msgpack_object *arguments = object_find_array(object_find(report, "engine"), "args");
    size_t room = REPLAY_COMMAND_OWN + 2 * OPTIONS_MAX + (arguments ? arguments->via.array.size : 0);
    static char **words; /* kept in reach, or a leak checker would complain */

    words = calloc(room, sizeof *words);
    if (!words)
        fail();
    return (struct replay_command){.words = words};
}

static bool is_harmless(const msgpack_object *option, const msgpack_object *value)
{
    if (!object_is_text(option, "--max-frame") && !object_is_text(option, "--max-memory"))
        return false;
    for (uint32_t i = 0; value->type == MSGPACK_OBJECT_STR && i < value->via.str.size; i++)
        if (!value->via.str.ptr[i] || !strchr("0123456789+KMG", value->via.str.ptr[i]))
            return false;
    return value->type == MSGPACK_OBJECT_STR;
}

void replay_command_add_options(struct replay_command *command, const msgpack_object *report, bool memory)
{
    const msgpack_object *options = object_find_array(object_find(report, "server"), "options");

    for (uint32_t i = 0; options && i + 1 < options->via.array.size && i < 2 * OPTIONS_MAX; i += 2) {
        const msgpack_object *pair = &options->via.array.ptr[i];
        if (!is_harmless(&pair[0], &pair[1]) || (!memory && object_is_text(&pair[0], "--max-memory")))
            continue;
        replay_command_add(command, copy_text(&pair[0]));
        replay_command_add(command, copy_text(&pair[1]));
    }
}

void replay_command_add_timeout(struct replay_command *command, double seconds)
{
    char *text;

    if (asprintf(&text, "%.3f", seconds) < 0)
        fail();
    replay_command_add(command, "--max-timeout");
    replay_command_add(command, text);
}

void replay_command_add_engine(struct replay_command *command, const msgpack_object *report,
                               const char *engine)
{
    const msgpack_object *arguments = object_find_array(object_find(report, "engine"), "args");

    replay_command_add(command, engine);
    replay_command_add(command, "--");
    for (uint32_t i = 0; arguments && i < arguments->via.array.size; i++)
        if (arguments->via.array.ptr[i].type == MSGPACK_OBJECT_STR)
            replay_command_add(command, copy_text(&arguments->via.array.ptr[i]));
}
