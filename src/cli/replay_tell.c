#include "replay_tell.h"

#include <string.h>

#include "json.h"
#include "object.h"
#include "pack.h"
#include "text.h"

static void put_text(FILE *out, const msgpack_object *text)
{
    text_put_safe(out, text->via.str.ptr, text->via.str.size);
}

/* The server's own words, but for its report, which is not kept. */
static void put_message(FILE *out, const msgpack_object *message)
{
    static const char mark[] = " (report ";
    const char *text = message->via.str.ptr;
    size_t size = message->via.str.size;

    for (size_t at = size; at-- > 0;)
        if (size - at >= sizeof mark - 1 && memcmp(text + at, mark, sizeof mark - 1) == 0) {
            size = at;
            break;
        }
    text_put_safe(out, text, size);
}

/* The report knows the place best: the answer may have come before its symbols were looked up. */
static void put_crash(FILE *out, const struct crash_outcome *outcome, const struct crash_verdict *verdict)
{
    const msgpack_object *message = object_find_text(outcome->error, "message");

    fputs("crashed again: ", out);
    if (message && !outcome->report) {
        put_message(out, message);
        return;
    }
    object_put(out, object_find(outcome->report, "cause"), "text");
    if (verdict->place) {
        fputs(": ", out);
        put_text(out, verdict->place);
    }
}

static void put_error(FILE *out, const msgpack_object *error)
{
    fputs("did not crash: the engine said ", out);
    object_put(out, error, "code");
    fputs(": ", out);
    object_put(out, error, "message");
}

static void put_comparison(FILE *out, const msgpack_object *report, const struct crash_verdict *verdict)
{
    if (!verdict->same_cause) {
        fputs("another cause than in the report, which says: ", out);
        object_put(out, object_find(report, "cause"), "text");
        fputs(verdict->same_place ? "; the same place\n" : "\n", out);
    } else if (verdict->same_place) {
        fputs("the same cause and the same place as in the report\n", out);
    } else if (verdict->place && verdict->old_place) {
        fputs("the same cause as in the report, but another place: there it was ", out);
        put_text(out, verdict->old_place);
        fputc('\n', out);
    } else {
        fputs("the same cause as in the report; the places cannot be compared, as a stack is missing\n", out);
    }
}

static void pack_flag(msgpack_packer *packer, const char *key, bool on)
{
    pack_text(packer, key);
    on ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
}

static void print_json(const char *id, const struct crash_verdict *verdict, const char *message)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;

    msgpack_sbuffer_init(&buffer);
    object_packer_init(&packer, &buffer);
    msgpack_pack_map(&packer, 6);
    pack_flag(&packer, "crashed", verdict->crashed);
    pack_flag(&packer, "same_cause", verdict->same_cause);
    pack_flag(&packer, "same_place", verdict->same_place);
    pack_text(&packer, "message");
    pack_text(&packer, message);
    pack_text(&packer, "report");
    pack_text(&packer, id);
    pack_text(&packer, "stack");
    if (verdict->stack)
        msgpack_pack_object(&packer, *verdict->stack);
    else
        msgpack_pack_nil(&packer);
    json_print_packed(stdout, &buffer);
    msgpack_sbuffer_destroy(&buffer);
}

char *replay_tell_message(const struct crash_outcome *outcome, const struct crash_verdict *verdict,
                          const char *otherwise)
{
    char *message = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&message, &size);

    if (!out)
        return NULL;
    if (verdict->crashed)
        put_crash(out, outcome, verdict);
    else if (outcome->error)
        put_error(out, outcome->error);
    else
        fputs(otherwise, out);
    fclose(out);
    return message;
}

void replay_tell(const struct crash_file *file, const struct crash_verdict *verdict, const char *message,
                 bool json)
{
    if (json) {
        print_json(file->name.id, verdict, message);
        return;
    }
    puts(message);
    if (verdict->crashed)
        put_comparison(stdout, &file->report.root, verdict);
}
