#include "crash_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The environment's word, if it is an absolute path: others are to be ignored (XDG base directories). */
static const char *find_directory(const char *variable)
{
    const char *path = getenv(variable);
    return path && *path == '/' ? path : NULL;
}

static int join(char *path, size_t size, const char *directory, size_t length, const char *rest)
{
    int written = snprintf(path, size, "%.*s%s", (int)length, directory, rest);
    if (written >= 0 && (size_t)written < size)
        return 0;
    errno = ENAMETOOLONG;
    return -1;
}

int crash_dir_default(char *path, size_t size)
{
    const char *directory = find_directory("STATE_DIRECTORY");
    if (directory) /* systemd lists several with colons */
        return join(path, size, directory, strcspn(directory, ":"), "/crash");
    if (geteuid() == 0)
        return join(path, size, "", 0, "/var/lib/cohab/crash");
    directory = find_directory("XDG_STATE_HOME");
    if (directory)
        return join(path, size, directory, strlen(directory), "/cohab/crash");
    directory = find_directory("HOME");
    if (directory)
        return join(path, size, directory, strlen(directory), "/.local/state/cohab/crash");
    errno = ENOENT;
    return -1;
}

int crash_dir_make(const char *path)
{
    char part[4096];
    snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return mkdir(part, 0700) < 0 && errno != EEXIST ? -1 : 0;
}
