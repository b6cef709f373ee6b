#include "descriptors.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>

static bool is_own(int number)
{
    switch (number) {
    case FD_FORKSERVER:
    case FD_SET:
    case FD_CONTROL:
    case FD_MAPS:
    case FD_MEMORY:
    case FD_SNAPSHOT:
    case FD_QUARANTINE:
        return true;
    }
    return false;
}

int descriptors_find_foreign(void)
{
    int found = -1;
    DIR *open_files = opendir("/proc/self/fd");
    for (struct dirent *entry; open_files && (entry = readdir(open_files));) {
        int number = atoi(entry->d_name);
        if (number >= FD_OWN && number != dirfd(open_files) && !is_own(number))
            found = number;
    }
    if (open_files)
        closedir(open_files);
    return found;
}
