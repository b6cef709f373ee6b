#include "oom.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

/* A kill of somebody else in the group is not held against a worker that dies so much later. */
#define PENDING_FOR (2 * CLOCK_NS_PER_S)

/* A line of /proc/self/cgroup: "0::/system.slice/x" is v2, "4:memory:/x" is v1. Returns whether it is of that
 * version's memory controller. */
static bool parse_group(char *line, int version, char **path)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *end = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!end)
        return false;
    *end = '\0';
    *path = end + 1;
    if (version == 2)
        return controllers[1] == '\0';
    for (char *save, *word = strtok_r(controllers + 1, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (strcmp(word, "memory") == 0)
            return true;
    return false;
}

static bool find_group(const char *groups, int version, char *group, size_t size)
{
    char line[4096], *path;
    bool found = false;
    FILE *file = fopen(groups, "re");
    while (file && !found && fgets(line, sizeof(line), file))
        if (parse_group(line, version, &path)) {
            snprintf(group, size, "%s", path);
            found = true;
        }
    if (file)
        fclose(file);
    return found;
}

/* A line of mountinfo: "30 23 0:26 ROOT POINT OPTIONS ... - TYPE SOURCE SUPER". */
static bool parse_mount(char *line, int version, char **root, char **point)
{
    char *save, *separator = strstr(line, " - ");
    if (!separator)
        return false;
    *separator = '\0';
    char *type = strtok_r(separator + 3, " \n", &save);
    (void)strtok_r(NULL, " \n", &save);
    char *super = strtok_r(NULL, " \n", &save);
    if (!type || strcmp(type, version == 2 ? "cgroup2" : "cgroup") != 0)
        return false;
    if (version == 1 && (!super || !strstr(super, "memory")))
        return false;
    for (int i = 0; i < 3; i++)
        if (!strtok_r(i == 0 ? line : NULL, " ", &save))
            return false;
    *root = strtok_r(NULL, " ", &save);
    *point = strtok_r(NULL, " ", &save);
    return *root && *point;
}

/* The group's directory below that mount; it may lie above the mount's root, in a container, and is the mount
 * itself then. */
static void join(char *path, size_t size, const char *root, const char *point, const char *group,
                 const char *file)
{
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    const char *below = strncmp(group, root, length) == 0 ? group + length : "";
    snprintf(path, size, "%s%s/%s", point, below, file);
}

static bool find_count(struct oom *oom, int version, const char *groups, const char *mounts)
{
    char group[2048], line[8192], *root, *point;
    bool found = false;
    if (!find_group(groups, version, group, sizeof(group)))
        return false;
    FILE *file = fopen(mounts, "re");
    while (file && !found && fgets(line, sizeof(line), file))
        if (parse_mount(line, version, &root, &point)) {
            join(oom->path, sizeof(oom->path), root, point, group,
                 version == 2 ? "memory.events" : "memory.oom_control");
            found = access(oom->path, R_OK) == 0;
        }
    if (file)
        fclose(file);
    return found;
}

/* "oom_kill 3" is a line of either file. */
static uint64_t read_count(const struct oom *oom)
{
    char text[1024];
    int file = open(oom->path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return oom->seen;
    ssize_t size = read(file, text, sizeof(text) - 1);
    close(file);
    text[size > 0 ? size : 0] = '\0';
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, "oom_kill ", 9) == 0)
            return strtoull(line + 9, NULL, 10);
    return oom->seen;
}

void oom_init(struct oom *oom, const char *groups, const char *mounts)
{
    *oom = (struct oom){0};
    if (!find_count(oom, 1, groups, mounts) && !find_count(oom, 2, groups, mounts))
        oom->path[0] = '\0';
    else
        oom->seen = read_count(oom);
}

bool oom_take(struct oom *oom, uint64_t now)
{
    if (!oom->path[0])
        return false;
    uint64_t count = read_count(oom);
    if (now - oom->pending_at > PENDING_FOR)
        oom->pending = 0;
    if (count > oom->seen) {
        oom->pending += count - oom->seen;
        oom->pending_at = now;
    }
    oom->seen = count;
    if (oom->pending == 0)
        return false;
    oom->pending--;
    return true;
}
