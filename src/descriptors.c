#include "descriptors.h"

#include <dirent.h>
#include <stdlib.h>

int descriptors_find_foreign(void)
{
    int found = -1;
    DIR *open_files = opendir("/proc/self/fd");
    for (struct dirent *entry; open_files && (entry = readdir(open_files));) {
        int number = atoi(entry->d_name);
        if (number >= FD_OWN && number != FD_FORKSERVER && number != FD_SET && number != FD_CONTROL &&
            number != dirfd(open_files))
            found = number;
    }
    if (open_files)
        closedir(open_files);
    return found;
}
