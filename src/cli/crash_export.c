#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crash_document.h"
#include "crash_files.h"
#include "json.h"
#include "object.h"
#include "text.h"
#include "usage.h"

static int tell_file(const struct cli *cli, const char *path)
{
    int error = errno;

    fprintf(stderr, "cohab: %s: cannot write ", cli->command->name);
    text_put_safe(stderr, path, strlen(path));
    fprintf(stderr, ": %s\n", strerror(error));
    return CLI_CALL_FAILED;
}

/* What somebody's request held is nobody else's business: a new file is the user's alone. */
static FILE *open_output(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (!file && fd >= 0)
        close(fd);
    return file;
}

static int close_output(const struct cli *cli, const char *path, FILE *file)
{
    bool failed = fflush(file) != 0 || ferror(file);

    if (fclose(file) != 0 || failed)
        return tell_file(cli, path);
    return CLI_OK;
}

static int write_document(const struct cli *cli, struct report *report, const char *path)
{
    msgpack_object document = crash_document_make(report, true);

    if (!path) {
        json_print(stdout, &document);
        return CLI_OK;
    }
    FILE *file = open_output(path);
    if (!file)
        return tell_file(cli, path);
    json_print(file, &document);
    return close_output(cli, path, file);
}

static int write_request(const struct cli *cli, const struct report *report, const char *path)
{
    struct envelope_request request;
    const char *why;

    /* One that is not whole is saved, too: it is what was received. */
    if (!report_read_request(report, &request, &why) && !report->frame) {
        fprintf(stderr, "cohab: %s: %s\n", cli->command->name, why);
        return CLI_CALL_FAILED;
    }
    FILE *file = open_output(path);
    if (!file)
        return tell_file(cli, path);
    fwrite(report->frame, 1, report->frame_size, file);
    return close_output(cli, path, file);
}

static int export(const struct cli *cli, struct report *report, const char *output, const char *request)
{
    int exit_code = request ? write_request(cli, report, request) : CLI_OK;

    if (exit_code == CLI_OK && (output || !request))
        exit_code = write_document(cli, report, output);
    return exit_code;
}

int crash_export_run(struct cli *cli, int argc, char **argv)
{
    const char *option = NULL, *output = NULL, *request = NULL;
    const struct usage_option options[] = {
        CRASH_DIR_OPTIONS(&option),
        {.name = "--output", .value = "FILE", .help = "write the JSON there", .text = &output},
        {.name = "--request",
         .value = "FILE",
         .help = "write the request there, exactly as it was received",
         .text = &request},
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
    exit_code = export(cli, &file.report, output, request);
    crash_file_close(&file);
    return exit_code;
}
