#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "crash_files.h"
#include "crash_place.h"
#include "crash_text.h"
#include "json.h"
#include "object.h"
#include "pack.h"
#include "rows.h"
#include "text.h"
#include "usage.h"

#define COMMAND "crash list"
/* Bytes of a place: names of templates can fill a screen. */
#define PLACE_SHOWN 100

static const msgpack_object *find_place(const struct report *report)
{
    return crash_place_find(object_find_array(&report->root, "stack"), object_find(&report->root, "top"));
}

/* --- for people --- */

static void put_method(FILE *out, const msgpack_object *report)
{
    if (object_find(report, "request")) {
        object_put(out, object_find(report, "request"), "method");
        return;
    }
    fputc('(', out);
    object_put(out, report, "phase");
    fputc(')', out);
}

static void put_report(FILE *out, const struct crash_file *file)
{
    const msgpack_object *report = &file->report.root, *place = find_place(&file->report);

    crash_text_put_time(out, report, false);
    fputc('\t', out);
    object_put(out, object_find(report, "engine"), "name");
    fputc('\t', out);
    put_method(out, report);
    fputc('\t', out);
    crash_text_put_cause(out, object_find(report, "cause"));
    fputc('\t', out);
    if (place)
        text_put_cut(out, place->via.str.ptr, place->via.str.size, PLACE_SHOWN);
    else
        fputc('-', out);
    fputc('\n', out);
}

static void put_row(FILE *out, const char *directory, const struct crash_name *name)
{
    static struct crash_file file;

    fprintf(out, "%s\t", name->id);
    const char *why = crash_file_open(&file, directory, name);
    if (why) {
        fprintf(out, "-\t-\t-\tunreadable\t%s\n", why);
        return;
    }
    put_report(out, &file);
    crash_file_close(&file);
}

static void print_table(const char *directory, const struct crash_names *names)
{
    static const char *const heading[] = {"ID", "WHEN", "ENGINE", "METHOD", "CAUSE", "WHERE", NULL};
    struct rows rows;

    if (names->count == 0) {
        fputs("no reports in ", stdout);
        text_put_safe(stdout, directory, strlen(directory));
        putchar('\n');
        return;
    }
    text_allow_colours(stdout);
    rows_begin(&rows, COMMAND);
    rows_put_heading(&rows, heading);
    for (size_t i = 0; i < names->count; i++)
        put_row(rows.out, directory, &names->items[i]);
    rows_print(&rows, "lrllll");
}

/* --- for programs --- */

static void pack_member(msgpack_packer *packer, const char *key, const msgpack_object *value)
{
    pack_text(packer, key);
    if (value)
        msgpack_pack_object(packer, *value);
    else
        msgpack_pack_nil(packer);
}

static void pack_report(msgpack_packer *packer, const struct report *report)
{
    const msgpack_object *root = report ? &report->root : NULL;

    pack_member(packer, "time", object_find(root, "time"));
    pack_member(packer, "engine", object_find(object_find(root, "engine"), "name"));
    pack_member(packer, "phase", object_find(root, "phase"));
    pack_member(packer, "method", object_find(object_find(root, "request"), "method"));
    pack_member(packer, "cause", object_find(root, "cause"));
    pack_member(packer, "where", report ? find_place(report) : NULL);
}

static void pack_row(msgpack_packer *packer, const char *directory, const struct crash_name *name)
{
    static struct crash_file file;
    const char *why = crash_file_open(&file, directory, name);

    msgpack_pack_map(packer, 9);
    pack_text(packer, "id");
    pack_text(packer, name->id);
    pack_text(packer, "kind");
    pack_text(packer, name->slow ? "slow" : "crash");
    pack_report(packer, why ? NULL : &file.report);
    pack_text(packer, "unreadable");
    if (why)
        pack_text(packer, why);
    else
        msgpack_pack_nil(packer);
    if (!why)
        crash_file_close(&file);
}

static void print_json(const char *directory, const struct crash_names *names)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;

    msgpack_sbuffer_init(&buffer);
    object_packer_init(&packer, &buffer);
    msgpack_pack_array(&packer, names->count);
    for (size_t i = 0; i < names->count; i++)
        pack_row(&packer, directory, &names->items[i]);
    json_print_packed(stdout, &buffer);
    msgpack_sbuffer_destroy(&buffer);
}

int crash_list_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const char *option = NULL;
    const struct usage_option options[] = {
        CRASH_DIR_OPTIONS(&option),
        {.name = "--json", .help = "print the list as JSON, for programs", .on = &json},
        {0},
    };
    struct crash_names names;
    char directory[PATH_MAX];

    usage_read(cli, options, argc, argv);
    crash_files_choose(cli, option, directory);
    int exit_code = crash_files_list(cli, directory, &names);
    if (exit_code == CLI_OK)
        (json ? print_json : print_table)(directory, &names);
    crash_files_free(&names);
    return exit_code;
}
