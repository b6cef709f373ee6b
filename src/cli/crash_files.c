#include "crash_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "crash_dir.h"
#include "object.h"
#include "text.h"
#include "usage.h"

/* Seconds that a server has to say where its reports lie. One that is stuck must not keep them from being
 * read. */
#define SERVER_PATIENCE 2.0

static const char suffixes[2][8] = {".crash", ".slow"};

/* --- the directory --- */

static bool copy_path(const msgpack_object *text, char path[PATH_MAX])
{
    if (!text || text->via.str.size == 0 || text->via.str.size >= PATH_MAX)
        return false;
    memcpy(path, text->via.str.ptr, text->via.str.size);
    path[text->via.str.size] = '\0';
    return true;
}

static bool ask_server(const char *socket, char path[PATH_MAX])
{
    struct client client;
    struct client_reply reply = {0};
    uint64_t until = client_after(SERVER_PATIENCE);
    const struct client_request request = {.method = "status", .deadline = until, .give_up = until};
    bool found = client_connect(&client, socket, true, until) == 0 &&
                 client_call(&client, &request, &reply) == 0 && !reply.error &&
                 copy_path(object_find_text(object_find(reply.result, "crashes"), "directory"), path);

    client_close(&client);
    client_free_reply(&reply);
    return found;
}

void crash_files_choose(const struct cli *cli, const char *option, char directory[PATH_MAX])
{
    if (option) {
        if (!*option || strlen(option) >= PATH_MAX)
            usage_fail(cli, "--crash-dir takes a path, not '%s'", option);
        strcpy(directory, option);
    } else if (!(cli->socket && ask_server(cli->socket, directory)) &&
               crash_dir_default(directory, PATH_MAX) < 0) {
        usage_fail(cli, "where reports lie cannot be told without a home directory; give --crash-dir DIR");
    }
}

/* --- its reports --- */

/* Whether a file of that name is a report. */
static bool read_name(const char *file, struct crash_name *name)
{
    for (int slow = 0; slow < 2; slow++) {
        size_t length = strlen(file), suffix = strlen(suffixes[slow]);
        if (length <= suffix || length - suffix >= sizeof name->id ||
            strcmp(file + length - suffix, suffixes[slow]) != 0)
            continue;
        memcpy(name->id, file, length - suffix);
        name->id[length - suffix] = '\0';
        name->slow = slow;
        return report_id_is_valid(name->id);
    }
    return false;
}

static int newest_first(const void *a, const void *b)
{
    const struct crash_name *left = a, *right = b;
    int order = report_id_compare(right->id, left->id);

    return order != 0 ? order : left->slow - right->slow;
}

static void add_name(struct crash_names *names, const struct crash_name *name)
{
    bool full = (names->count & (names->count - 1)) == 0; /* at each power of two */
    if (full)
        names->items = realloc(names->items, (names->count ? names->count * 2 : 1) * sizeof *name);
    if (!names->items) {
        fputs("cohab: out of memory\n", stderr);
        exit(CLI_CALL_FAILED);
    }
    names->items[names->count++] = *name;
}

static int tell(const struct cli *cli, const char *path, const char *why)
{
    fprintf(stderr, "cohab: %s: ", cli->command->name);
    text_put_safe(stderr, path, strlen(path));
    fprintf(stderr, ": %s\n", why);
    return CLI_CALL_FAILED;
}

int crash_files_list(const struct cli *cli, const char *directory, struct crash_names *names)
{
    struct crash_name name;

    *names = (struct crash_names){0};
    DIR *open = opendir(directory);
    if (!open && errno == ENOENT)
        return CLI_OK;
    if (!open)
        return tell(cli, directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(open));)
        if (read_name(entry->d_name, &name))
            add_name(names, &name);
    closedir(open);
    if (names->count > 0)
        qsort(names->items, names->count, sizeof *names->items, newest_first);
    return CLI_OK;
}

void crash_files_free(struct crash_names *names)
{
    free(names->items);
}

/* --- one report --- */

/* Maps the file: most of a large report is the request's frame, which is hardly ever looked at. Reports are
 * never written in place, so that a map stays whole. */
static const char *map_file(struct crash_file *file)
{
    struct stat status;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return strerror(errno);
    bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    void *bytes = regular ? mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    const char *why = regular ? strerror(errno) : report_explain(REPORT_FOREIGN);
    close(fd);
    if (bytes == MAP_FAILED)
        return why;
    file->bytes = bytes;
    file->size = (size_t)status.st_size;
    file->owner = status.st_uid;
    file->group = status.st_gid;
    return NULL;
}

const char *crash_file_open(struct crash_file *file, const char *directory, const struct crash_name *name)
{
    *file = (struct crash_file){.name = *name};
    int length =
        snprintf(file->path, sizeof file->path, "%s/%s%s", directory, name->id, suffixes[name->slow]);
    if (length < 0 || (size_t)length >= sizeof file->path)
        return strerror(ENAMETOOLONG);
    const char *why = map_file(file);
    if (why)
        return why;
    enum report_result result = report_open(&file->report, file->bytes, file->size);
    if (result == REPORT_OK)
        return NULL;
    munmap(file->bytes, file->size);
    return report_explain(result);
}

void crash_file_close(struct crash_file *file)
{
    report_close(&file->report);
    munmap(file->bytes, file->size);
}

static int tell_unknown(const struct cli *cli, const char *word, const char *directory)
{
    fprintf(stderr, "cohab: %s: no report ", cli->command->name);
    text_put_safe(stderr, word, strlen(word));
    fputs(" in ", stderr);
    text_put_safe(stderr, directory, strlen(directory));
    fputs("; see cohab crash list\n", stderr);
    return CLI_CALL_FAILED;
}

/* The newest of a death. */
static int find_latest(const struct cli *cli, const char *directory, const struct crash_names *names,
                       struct crash_name *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (!names->items[i].slow) {
            *name = names->items[i];
            return CLI_OK;
        }
    return tell(cli, directory, "there are no reports of crashes");
}

/* The one that has this id, else the one that begins like that. */
static int find_name(const struct cli *cli, const char *directory, const struct crash_names *names,
                     const char *word, struct crash_name *name)
{
    size_t found = 0;

    for (size_t i = 0; i < names->count; i++) {
        const struct crash_name *candidate = &names->items[i];
        if (strncmp(candidate->id, word, strlen(word)) != 0)
            continue;
        *name = *candidate;
        if (strcmp(candidate->id, word) == 0)
            return CLI_OK;
        found++;
    }
    if (found == 0)
        return tell_unknown(cli, word, directory);
    return found == 1 ? CLI_OK : tell(cli, word, "several reports begin like that; see cohab crash list");
}

int crash_file_find(const struct cli *cli, struct crash_file *file, const char *directory, const char *word)
{
    struct crash_names names;
    struct crash_name name = {.slow = false};
    int exit_code = crash_files_list(cli, directory, &names);

    if (exit_code == CLI_OK && (strcmp(word, "latest") == 0 || strcmp(word, "last") == 0))
        exit_code = find_latest(cli, directory, &names, &name);
    else if (exit_code == CLI_OK && report_id_is_valid(word))
        exit_code = find_name(cli, directory, &names, word, &name);
    else if (exit_code == CLI_OK)
        exit_code = tell_unknown(cli, word, directory);
    crash_files_free(&names);
    if (exit_code != CLI_OK)
        return exit_code;
    const char *why = crash_file_open(file, directory, &name);
    return why ? tell(cli, file->path, why) : CLI_OK;
}
