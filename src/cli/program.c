#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_program(const char *directory, size_t length, const char *name, char path[PATH_MAX])
{
    struct stat status;
    int written = snprintf(path, PATH_MAX, "%.*s/%s", (int)length, directory, name);

    return written > 0 && written < PATH_MAX && stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
           access(path, X_OK) == 0;
}

bool program_find(const char *name, char path[PATH_MAX])
{
    const char *directories = getenv("PATH");

    while (directories && *directories) {
        size_t length = strcspn(directories, ":");
        if (length > 0 && is_program(directories, length, name, path))
            return true;
        directories += length + (directories[length] == ':');
    }
    return false;
}

bool program_find_sibling(const char *name, char path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    if (length > 0) {
        self[length] = '\0';
        if (is_program(self, (size_t)(strrchr(self, '/') - self), name, path))
            return true;
    }
    return program_find(name, path);
}
