/* Shows a report. Every field of it is optional here, and may be of any type. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "crash_document.h"
#include "crash_files.h"
#include "crash_text.h"
#include "frames.h"
#include "json.h"
#include "object.h"
#include "rows.h"
#include "text.h"
#include "usage.h"

#define COMMAND "crash show"
/* Bytes of the parameters that are shown, and of a frame whose parameters are unpacked for that: they can
 * take many times its size. */
#define PARAMS_SHOWN 2000
#define FRAME_LARGE  (4u << 20)

/* "before value after", where there is a value. */
static void put_if(FILE *out, const char *before, const msgpack_object *map, const char *key,
                   const char *after)
{
    if (!object_find(map, key))
        return;
    fputs(before, out);
    object_put(out, map, key);
    fputs(after, out);
}

static void put_seconds_if(FILE *out, const char *before, const msgpack_object *map, const char *key,
                           const char *after)
{
    if (!object_find(map, key))
        return;
    fputs(before, out);
    object_put_seconds(out, map, key);
    fputs(after, out);
}

/* --- the cause --- */

static void print_headline(const msgpack_object *cause)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);

    if (!out)
        return;
    if (object_find_text(cause, "text"))
        object_put(out, cause, "text");
    else
        crash_text_put_cause(out, cause);
    fclose(out);
    text_paint(stdout, TEXT_BOLD, line);
    putchar('\n');
    free(line);
}

static void print_address(const msgpack_object *cause)
{
    const msgpack_object *address = object_find(cause, "address");

    if (address && address->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        printf("  at address 0x%" PRIx64 "\n", address->via.u64);
}

static void print_code(const msgpack_object *cause)
{
    const char *meaning = crash_text_explain_code(object_find_text(cause, "code"));

    if (!object_find(cause, "code"))
        return;
    if (meaning)
        printf("  %s (", meaning);
    else
        fputs("  code ", stdout);
    object_put(stdout, cause, "code");
    puts(meaning ? ")" : "");
}

static bool is_true(const msgpack_object *map, const char *key)
{
    const msgpack_object *value = object_find(map, key);

    return value && value->type == MSGPACK_OBJECT_BOOLEAN && value->via.boolean;
}

static void print_cause(const msgpack_object *cause)
{
    const msgpack_object *sender = object_find(cause, "sender");

    print_headline(cause);
    print_address(cause);
    print_code(cause);
    if (is_true(cause, "own")) {
        puts("  raised by the process itself");
    } else if (sender) {
        put_if(stdout, "  sent by process ", sender, "pid", "");
        put_if(stdout, " of user ", sender, "uid", "");
        putchar('\n');
    }
    if (is_true(cause, "core"))
        puts("  core dumped");
}

/* --- what it was doing --- */

static void put_arguments(FILE *out, const msgpack_object *arguments)
{
    for (uint32_t i = 0; arguments && i < arguments->via.array.size; i++) {
        const msgpack_object *argument = &arguments->via.array.ptr[i];
        fputc(' ', out);
        if (argument->type == MSGPACK_OBJECT_STR)
            text_put_safe(out, argument->via.str.ptr, argument->via.str.size);
    }
}

static void put_engine(FILE *out, const msgpack_object *engine)
{
    fputs("engine\t", out);
    object_put(out, engine, "name");
    put_if(out, " ", engine, "version", "");
    put_if(out, ", build id ", engine, "build_id", "");
    put_if(out, ", generation ", engine, "generation", "");
    put_if(out, "\n\t", engine, "path", "");
    put_arguments(out, object_find_array(engine, "args"));
    fputc('\n', out);
}

static void put_worker(FILE *out, const msgpack_object *worker)
{
    double number = 1;

    object_find_number(worker, "number", &number);
    fputs("process\t", out);
    if (number > 0) {
        fputs("worker ", out);
        object_put(out, worker, "number");
    } else {
        fputs("forkserver", out);
    }
    put_if(out, ", pid ", worker, "pid", "");
    put_seconds_if(out, ", ", worker, "age", " old");
    put_if(out, ", had answered ", worker, "served", " calls");
    fputc('\n', out);
}

static void put_request(FILE *out, const msgpack_object *report)
{
    const msgpack_object *request = object_find(report, "request"), *peer = object_find(request, "peer");

    if (!request) {
        put_if(out, "phase\t", report, "phase", "\n");
        return;
    }
    fputs("request\t", out);
    object_put(out, request, "method");
    put_seconds_if(out, ", had run for ", request, "ran", "");
    put_seconds_if(out, ", waited for ", request, "queued", "");
    put_if(out, ", ", request, "size", " bytes");
    put_if(out, "\n\tfrom process ", peer, "pid", "");
    put_if(out, " of user ", peer, "uid", "");
    fputc('\n', out);
}

static void put_server(FILE *out, const msgpack_object *server)
{
    fputs("server\tcohabd ", out);
    object_put(out, server, "version");
    put_if(out, ", pid ", server, "pid", "");
    put_if(out, ", ", server, "socket", "");
    fputc('\n', out);
}

static void put_mebibytes(FILE *out, const msgpack_object *memory, const char *key)
{
    double bytes;

    if (object_find_number(memory, key, &bytes))
        fprintf(out, "%.1f MiB", bytes / (1 << 20));
}

static void put_memory(FILE *out, const msgpack_object *memory)
{
    double bytes;

    if (!object_find_number(memory, "peak", &bytes))
        return;
    fputs("memory\t", out);
    put_mebibytes(out, memory, "peak");
    fputs(" at most", out);
    if (object_find_number(memory, "limit", &bytes)) {
        fputs(", limit ", out);
        put_mebibytes(out, memory, "limit");
    }
    fputc('\n', out);
}

static void print_facts(const struct crash_file *file)
{
    const msgpack_object *report = &file->report.root;
    struct rows rows;

    rows_begin(&rows, COMMAND);
    fprintf(rows.out, "report\t%s, ", file->name.id);
    crash_text_put_time(rows.out, report, true);
    fputc('\n', rows.out);
    put_engine(rows.out, object_find(report, "engine"));
    put_worker(rows.out, object_find(report, "worker"));
    put_request(rows.out, report);
    put_server(rows.out, object_find(report, "server"));
    put_memory(rows.out, object_find(report, "memory"));
    putchar('\n');
    rows_print(&rows, "ll");
}

/* --- the rest --- */

static void print_stack(const msgpack_object *report)
{
    const msgpack_object *stack = object_find_array(report, "stack");

    putchar('\n');
    if (!stack || stack->via.array.size == 0) {
        frames_put_absence(stdout, report);
        return;
    }
    puts("stack, innermost first:");
    frames_put(stdout, "  ", stack);
}

static void print_stderr(const msgpack_object *report)
{
    const msgpack_object *output = object_find_text(report, "stderr");

    if (!output || output->via.str.size == 0)
        return;
    puts("\nlast written to stderr:");
    text_put_lines(stdout, "  ", output->via.str.ptr, output->via.str.size);
}

static void print_params(struct crash_file *file)
{
    struct report *report = &file->report;
    const char *why = "too large to be shown here";
    msgpack_object params;

    if (!object_find(&report->root, "request"))
        return;
    if (report->frame_size > FRAME_LARGE || !crash_document_params(report, &params, &why)) {
        printf("\nparameters: %s\n", why);
        if (report->frame)
            printf("cohab crash export %s tells all there is\n", file->name.id);
        return;
    }
    fputs("\nparameters:\n  ", stdout);
    if (json_print_cut(stdout, &params, PARAMS_SHOWN))
        printf("the whole of them: cohab crash export %s\n", file->name.id);
}

/* Not where there is nothing to run: a worker that died idle, or a request that was left out. */
static bool can_be_replayed(const struct report *report)
{
    static const char *const phases[] = {"load", "start", "stop"};

    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
        if (object_is_text(object_find(&report->root, "phase"), phases[i]))
            return true;
    return report->frame;
}

static void print_report(struct crash_file *file)
{
    text_allow_colours(stdout);
    print_cause(object_find(&file->report.root, "cause"));
    print_facts(file);
    print_stack(&file->report.root);
    print_stderr(&file->report.root);
    print_params(file);
    if (can_be_replayed(&file->report))
        printf("\nto run it again: cohab crash replay %s\n", file->name.id);
}

int crash_show_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const char *option = NULL;
    const struct usage_option options[] = {
        CRASH_DIR_OPTIONS(&option),
        {.name = "--json", .help = "print it as JSON, without the bytes of the frame", .on = &json},
        {0},
    };
    static struct crash_file file;
    char directory[PATH_MAX];

    if (usage_read(cli, options, argc, argv) != 1)
        usage_fail(cli, "it takes one ID");
    crash_files_choose(cli, option, directory);
    int exit_code = crash_file_find(cli, &file, directory, argv[0]);
    if (exit_code != CLI_OK)
        return exit_code;
    if (json) {
        msgpack_object document = crash_document_make(&file.report, false);
        json_print(stdout, &document);
    } else {
        print_report(&file);
    }
    crash_file_close(&file);
    return CLI_OK;
}
