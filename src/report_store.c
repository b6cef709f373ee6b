#include "report_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

/* A file so young, in s, and empty may be one that its writer has not locked yet. */
#define JUST_MADE 60
/* Reports of one second. */
#define NUMBER_MAX 9999

static const char *const suffixes[] = {"crash", "slow"};

/* --- names --- */

static void final_name(const struct report_store *store, const struct report_file *file, char *path,
                       size_t size)
{
    snprintf(path, size, "%s/%s.%s", store->directory, file->id, file->suffix);
}

/* ".20261122-101502-3.crash.tmp" */
static void hidden_name(const struct report_store *store, const struct report_file *file, char *path,
                        size_t size)
{
    snprintf(path, size, "%s/.%s.%s.tmp", store->directory, file->id, file->suffix);
}

static bool is_taken(const struct report_store *store, const char *id)
{
    char path[4096];
    for (size_t i = 0; i < 2; i++) {
        struct report_file other = {.suffix = suffixes[i]};
        snprintf(other.id, sizeof(other.id), "%s", id);
        final_name(store, &other, path, sizeof(path));
        if (access(path, F_OK) == 0)
            return true;
    }
    return false;
}

/* Reserves the id, too, among the servers that share the directory. Another one may have come to its end with
 * it since it was looked for. */
static int open_hidden(const struct report_store *store, struct report_file *file)
{
    char path[4096];
    hidden_name(store, file, path, sizeof(path));
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor < 0)
        return -1;
    if (is_taken(store, file->id))
        errno = EEXIST;
    else if (flock(descriptor, LOCK_EX | LOCK_NB) == 0 && (file->stream = fdopen(descriptor, "w")))
        return 0;
    int saved = errno;
    close(descriptor);
    unlink(path);
    errno = saved;
    return -1;
}

int report_store_begin(struct report_store *store, time_t now, const char *suffix, struct report_file *file)
{
    struct tm date;
    char second[20];
    localtime_r(&now, &date);
    strftime(second, sizeof(second), "%Y%m%d-%H%M%S", &date);
    *file = (struct report_file){.suffix = suffix};
    if (store->second != now)
        store->number = 0;
    store->second = now;
    while (store->number < NUMBER_MAX) {
        snprintf(file->id, sizeof(file->id), "%s-%d", second, ++store->number);
        if (is_taken(store, file->id))
            continue;
        if (open_hidden(store, file) == 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    file->id[0] = '\0';
    return -1;
}

/* By link(2), which replaces nothing. */
static int give_name(const struct report_store *store, struct report_file *file, const char *hidden)
{
    char path[4096];
    final_name(store, file, path, sizeof(path));
    if (link(hidden, path) == 0) {
        unlink(hidden);
        return 0;
    }
    if (errno == EPERM || errno == EOPNOTSUPP) /* a file system without hard links */
        return access(path, F_OK) == 0 ? -1 : rename(hidden, path);
    return -1;
}

int report_store_commit(const struct report_store *store, struct report_file *file)
{
    char hidden[4096], path[4096];
    hidden_name(store, file, hidden, sizeof(hidden));
    final_name(store, file, path, sizeof(path));
    bool written = fflush(file->stream) == 0 && !ferror(file->stream);
    bool named = written && give_name(store, file, hidden) == 0; /* under the lock: else it may be adopted */
    int saved = errno;
    bool closed = fclose(file->stream) == 0; /* some file systems tell only now that there is no room */
    file->stream = NULL;
    if (named && closed)
        return 0;
    if (named)
        saved = errno;
    (void)unlink(named ? path : hidden);
    errno = saved;
    return -1;
}

void report_store_abort(const struct report_store *store, struct report_file *file)
{
    char hidden[4096];
    if (!file->stream)
        return;
    fclose(file->stream);
    file->stream = NULL;
    hidden_name(store, file, hidden, sizeof(hidden));
    unlink(hidden);
}

/* --- what others have left --- */

/* ".ID.SUFFIX.tmp" */
static bool parse_hidden(const char *name, struct report_file *file)
{
    char suffix[8];
    int end = 0;
    if (sscanf(name, ".%31[0-9-].%7[a-z].tmp%n", file->id, suffix, &end) != 2 || end == 0 || name[end])
        return false;
    file->suffix = NULL;
    for (size_t i = 0; i < 2; i++)
        if (strcmp(suffix, suffixes[i]) == 0)
            file->suffix = suffixes[i];
    return file->suffix != NULL;
}

/* Whether its writer came so far as to write something whole. */
static bool is_whole(int descriptor, size_t size)
{
    size_t length = 0;
    if (size == 0)
        return false;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
        return false;
    bool whole = check_value(bytes, size, CHECK_MAX_DEPTH, &length) == CHECK_OK && length == size;
    munmap(bytes, size);
    return whole;
}

/* Where its writer is dead. One that has just been made is not locked yet. Returns whether it became a
 * report. */
static bool adopt(const struct report_store *store, struct report_file *file)
{
    char path[4096];
    struct stat status;
    hidden_name(store, file, path, sizeof(path));
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0)
        return false;
    bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    bool just_made = regular && status.st_size == 0 && time(NULL) - status.st_mtime < JUST_MADE;
    bool orphan = regular && !just_made && flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    bool adopted =
        orphan && is_whole(descriptor, (size_t)status.st_size) && give_name(store, file, path) == 0;
    if (orphan && !adopted)
        unlink(path);
    close(descriptor);
    return adopted;
}

unsigned report_store_adopt(const struct report_store *store)
{
    unsigned adopted = 0;
    DIR *directory = opendir(store->directory);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct report_file file = {0};
        if (parse_hidden(entry->d_name, &file))
            adopted += adopt(store, &file);
    }
    if (directory)
        closedir(directory);
    return adopted;
}

/* --- how many are kept --- */

struct kept {
    char id[REPORT_ID_SIZE];
    unsigned kind; /* of suffixes[] */
    uint64_t size;
};

static int compare_age(const void *a, const void *b)
{
    const struct kept *first = a, *second = b;
    return report_id_compare(second->id, first->id);
}

static bool parse_final(const char *name, struct kept *kept)
{
    const char *dot = strchr(name, '.');
    if (!dot || dot - name >= (ptrdiff_t)sizeof(kept->id))
        return false;
    snprintf(kept->id, sizeof(kept->id), "%.*s", (int)(dot - name), name);
    for (unsigned i = 0; i < 2; i++)
        if (strcmp(dot + 1, suffixes[i]) == 0) {
            kept->kind = i;
            return report_id_is_valid(kept->id);
        }
    return false;
}

static bool read_kept(DIR *directory, const char *name, struct kept *kept)
{
    struct stat status;
    if (!parse_final(name, kept) || fstatat(dirfd(directory), name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(status.st_mode))
        return false;
    kept->size = (uint64_t)status.st_size;
    return true;
}

static void remove_kept(const struct report_store *store, const struct kept *kept)
{
    char path[4096];
    struct report_file file = {.suffix = suffixes[kept->kind]};
    memcpy(file.id, kept->id, sizeof(file.id));
    final_name(store, &file, path, sizeof(path));
    (void)unlink(path); /* another server's reporter was faster */
}

/* Newest first. */
static struct kept *list_kept(DIR *directory, size_t *count)
{
    struct kept *list = NULL;
    size_t room = 0;
    *count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (*count == room) {
            room = room ? room * 2 : 256;
            struct kept *larger = realloc(list, room * sizeof(*list));
            if (!larger)
                break;
            list = larger;
        }
        *count += read_kept(directory, entry->d_name, &list[*count]);
    }
    if (list)
        qsort(list, *count, sizeof(*list), compare_age);
    return list;
}

void report_store_prune(const struct report_store *store)
{
    DIR *directory = opendir(store->directory);
    if (!directory)
        return;
    size_t count;
    struct kept *list = list_kept(directory, &count);
    unsigned of_kind[2] = {0, 0};
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += list[i].size;
        bool newest = i == 0; /* however large: it is the one that somebody waits for */
        if (++of_kind[list[i].kind] > store->keep || (size > store->keep_size && !newest))
            remove_kept(store, &list[i]);
    }
    free(list);
    closedir(directory);
}
