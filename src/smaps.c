#include "smaps.h"

#include <stdlib.h>
#include <string.h>

/* "Private_Dirty:      1234 kB" */
uint64_t smaps_private(const char *text)
{
    uint64_t total = 0;
    for (const char *line = strstr(text, "Private_"); line; line = strstr(line + 1, "Private_")) {
        const char *colon = strchr(line, ':');
        if (colon)
            total += strtoull(colon + 1, NULL, 10) * 1024;
    }
    return total;
}
