#include "report_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

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

int report_store_begin(const struct report_store *store, time_t now, const char *suffix,
                       struct report_file *file)
{
    struct tm date;
    char second[20];
    localtime_r(&now, &date);
    strftime(second, sizeof(second), "%Y%m%d-%H%M%S", &date);
    *file = (struct report_file){.suffix = suffix};
    for (int number = 1; number <= NUMBER_MAX; number++) {
        snprintf(file->id, sizeof(file->id), "%s-%d", second, number);
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
    char hidden[4096];
    hidden_name(store, file, hidden, sizeof(hidden));
    bool failed = fflush(file->stream) == EOF || ferror(file->stream);
    int saved = errno;
    if (fclose(file->stream) == EOF && !failed) {
        failed = true;
        saved = errno;
    }
    file->stream = NULL;
    if (!failed && give_name(store, file, hidden) == 0)
        return 0;
    if (!failed)
        saved = errno;
    unlink(hidden);
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

/* Whether its writer is dead. One that has just been made is not locked yet. */
static bool is_orphan(const char *path)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0)
        return false;
    bool orphan = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
                  flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    close(descriptor);
    return orphan;
}

unsigned report_store_adopt(const struct report_store *store)
{
    unsigned adopted = 0;
    DIR *directory = opendir(store->directory);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct report_file file = {0};
        char path[4096];
        if (!parse_hidden(entry->d_name, &file))
            continue;
        snprintf(path, sizeof(path), "%s/%s", store->directory, entry->d_name);
        if (is_orphan(path))
            adopted += give_name(store, &file, path) == 0;
    }
    if (directory)
        closedir(directory);
    return adopted;
}

/* --- how many are kept --- */

struct kept {
    char name[REPORT_ID_SIZE + 8];
    bool slow;
    struct timespec at;
    uint64_t size;
};

static int compare_age(const void *a, const void *b)
{
    const struct kept *first = a, *second = b;
    if (first->at.tv_sec != second->at.tv_sec)
        return first->at.tv_sec < second->at.tv_sec ? 1 : -1;
    if (first->at.tv_nsec != second->at.tv_nsec)
        return first->at.tv_nsec < second->at.tv_nsec ? 1 : -1;
    return 0;
}

static bool parse_final(const char *name, bool *slow)
{
    size_t id = strspn(name, "0123456789-");
    *slow = strcmp(name + id, ".slow") == 0;
    return id >= 17 && id < REPORT_ID_SIZE && (*slow || strcmp(name + id, ".crash") == 0);
}

static bool read_kept(DIR *directory, const char *name, struct kept *kept)
{
    struct stat status;
    if (!parse_final(name, &kept->slow) ||
        fstatat(dirfd(directory), name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(status.st_mode))
        return false;
    snprintf(kept->name, sizeof(kept->name), "%.39s", name);
    kept->at = status.st_mtim;
    kept->size = (uint64_t)status.st_size;
    return true;
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
        if (++of_kind[list[i].slow] > store->keep || (size > store->keep_size && !newest))
            (void)unlinkat(dirfd(directory), list[i].name, 0); /* another server's reporter was faster */
    }
    free(list);
    closedir(directory);
}
